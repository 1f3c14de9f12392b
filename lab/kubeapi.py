"""A small client of the Kubernetes API for tests and the demo.

Inputs: a URL and a token. Outputs: objects as decoded JSON; `ApiError` for every other answer. It shares no code with `kvip.kube`, so that
a mistake there is not made twice. What it creates is valid for the real API server too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import msgspec

from kvip.errors import ApiError

Obj = dict[str, Any]
Objs = list[Obj]
T = TypeVar("T")

ADDRESS_ANNOTATION = "kube-vip.io/loadbalancerIPs"
REQUEST_TIMEOUT_S = 5.0
POLL_S = 0.02
MERGE_PATCH = "application/merge-patch+json"
_PREFIXES = {
    "services": "/api/v1",
    "nodes": "/api/v1",
    "namespaces": "/api/v1",
    "events": "/api/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
}


def path_of(resource: str, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The path of a collection, an object or its subresource."""
    scope = f"/namespaces/{namespace}" if namespace else ""
    return "/".join(filter(None, [f"{_PREFIXES[resource]}{scope}/{resource}", name, subresource]))


class KubeApi:
    """One client; `async with` opens and closes its connections.

    `verify` False accepts any certificate; `source` is the local address to connect from, "" = the kernel's choice.
    """

    def __init__(self, url: str, token: str = "", *, verify: bool = False, source: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._verify = verify
        self._source = (source, 0) if source else None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> KubeApi:
        self._session = aiohttp.ClientSession(
            headers=self._headers, connector=aiohttp.TCPConnector(ssl=self._verify, local_addr=self._source)
        )
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Obj:
        """One request. Errors: ApiError, status 0 when no answer came in time."""
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._open().request(method, self.url + path, data=data, params=query, headers=headers, timeout=timeout) as answer:
                return _decoded(method, path, answer, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(method, path, status=0, reason=type(error).__name__, message=str(error)) from error

    async def create(self, resource: str, body: Obj, *, namespace: str = "") -> Obj:
        """POST an object."""
        return await self.request("POST", path_of(resource, namespace=namespace), body=body)

    async def get(self, resource: str, name: str, *, namespace: str = "") -> Obj:
        """GET an object. Errors: ApiError 404."""
        return await self.request("GET", path_of(resource, namespace=namespace, name=name))

    async def replace(self, resource: str, body: Obj, *, namespace: str = "", subresource: str = "") -> Obj:
        """PUT an object; with metadata.resourceVersion it is compare-and-swap (ApiError 409)."""
        name = body["metadata"]["name"]
        return await self.request("PUT", path_of(resource, namespace=namespace, name=name, subresource=subresource), body=body)

    async def patch(self, resource: str, name: str, body: Obj, *, namespace: str = "", subresource: str = "") -> Obj:
        """Merge-patch an object or its status."""
        path = path_of(resource, namespace=namespace, name=name, subresource=subresource)
        return await self.request("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def delete(self, resource: str, name: str, *, namespace: str = "", uid: str = "") -> Obj:
        """DELETE an object, with `uid` only that very one (ApiError 409)."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}} if uid else None
        return await self.request("DELETE", path_of(resource, namespace=namespace, name=name), body=body)

    async def list(self, resource: str, *, namespace: str = "", query: Mapping[str, str] | None = None) -> Objs:
        """All objects, of one namespace or of all."""
        answer = await self.request("GET", path_of(resource, namespace=namespace), query=query)
        return list(answer["items"])

    async def watch(
        self, resource: str, *, namespace: str = "", query: Mapping[str, str] | None = None, timeout_s: float = 30.0
    ) -> AsyncGenerator[tuple[str, Obj], None]:
        """(type, object) of each event until the stream ends. Errors: ApiError, aiohttp.ClientError when it is cut, TimeoutError."""
        path = path_of(resource, namespace=namespace)
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with self._open().get(
            self.url + path, params={"watch": "1"} | dict(query or {}), timeout=timeout, read_bufsize=2**20
        ) as answer:
            if answer.status != 200:
                _decoded("GET", path, answer, await answer.read())
            async for line in answer.content:
                event = msgspec.json.decode(line, type=Obj)
                yield event["type"], event["object"]

    async def create_service(
        self,
        name: str,
        *,
        namespace: str = "default",
        addresses: Sequence[str] | None = None,
        type: str = "LoadBalancer",
        lb_class: str | None = None,
        annotations: Mapping[str, str] | None = None,
        spec_patch: Obj | None = None,
    ) -> Obj:
        """A Service that asks for `addresses` by annotation, joined by commas as they are; `spec_patch` is laid over the spec."""
        marks = dict(annotations or {}) | ({ADDRESS_ANNOTATION: ",".join(addresses)} if addresses is not None else {})
        spec: Obj = {"type": type, "ports": [{"port": 80}], "selector": {"app": name}}
        if type == "LoadBalancer":
            spec["allocateLoadBalancerNodePorts"] = False  # the range has 2,768 node ports
        if lb_class is not None:
            spec["loadBalancerClass"] = lb_class
        spec |= spec_patch or {}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": marks}, "spec": spec}
        return await self.create("services", body, namespace=namespace)

    async def get_service(self, name: str, *, namespace: str = "default") -> Obj:
        """Errors: ApiError 404."""
        return await self.get("services", name, namespace=namespace)

    async def patch_service(self, name: str, patch: Obj, *, namespace: str = "default", subresource: str = "") -> Obj:
        """Merge-patch a Service. loadBalancerClass cannot change while the type stays LoadBalancer (422)."""
        return await self.patch("services", name, patch, namespace=namespace, subresource=subresource)

    async def set_addresses(self, name: str, addresses: Sequence[str] | None, *, namespace: str = "default") -> Obj:
        """Change the addresses that a Service asks for; None removes the annotation."""
        value = None if addresses is None else ",".join(addresses)
        return await self.patch_service(name, {"metadata": {"annotations": {ADDRESS_ANNOTATION: value}}}, namespace=namespace)

    async def delete_service(self, name: str, *, namespace: str = "default", uid: str = "") -> Obj:
        """Errors: ApiError 404; 409 when `uid` is another's."""
        return await self.delete("services", name, namespace=namespace, uid=uid)

    async def leases(self, *, namespace: str = "kube-system") -> dict[str, Obj]:
        """The Leases of a namespace by name."""
        return {lease["metadata"]["name"]: lease for lease in await self.list("leases", namespace=namespace)}

    async def events_of(self, uid_or_name: str, *, reason: str = "") -> Objs:
        """The Events about an object, of one reason or of all."""
        events = await self.list("events")
        return [
            event
            for event in events
            if uid_or_name in {event["involvedObject"].get("uid"), event["involvedObject"].get("name")} and reason in {"", event["reason"]}
        ]

    async def create_endpointslice(
        self,
        service: str,
        *,
        namespace: str = "default",
        name: str = "",
        addresses: Sequence[str] = ("10.244.0.2",),
        node_name: str | None = None,
        ready: bool = True,
    ) -> Obj:
        """An EndpointSlice of a Service, one endpoint per address."""
        extra = {"nodeName": node_name} if node_name else {}
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name or f"{service}-1", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv6" if any(":" in address for address in addresses) else "IPv4",
            "ports": [{"port": 80, "protocol": "TCP", "name": ""}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} | extra for address in addresses],
        }
        return await self.create("endpointslices", body, namespace=namespace)

    async def create_node(self, name: str, *, addresses: Sequence[str] = (), labels: Mapping[str, str] | None = None) -> Obj:
        """A Node with InternalIPs."""
        status = {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]}
        metadata = {"name": name, "labels": dict(labels or {})}
        return await self.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})

    async def wait(self, probe: Callable[[], Awaitable[T | None]], what: str, *, timeout_s: float) -> T:
        """Ask until the answer is neither None nor False. Errors: AssertionError that says what was waited for."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            found = await probe()
            if found is not None and found is not False:
                return found
            if asyncio.get_running_loop().time() >= deadline:
                raise AssertionError(f"not within {timeout_s:g} s: {what}")
            await asyncio.sleep(POLL_S)

    async def wait_ingress(self, name: str, addresses: Sequence[str], *, namespace: str = "default", timeout_s: float = 5.0) -> Obj:
        """Wait until the Service's status names exactly `addresses`."""

        async def probe() -> Obj | None:
            service = await self.get_service(name, namespace=namespace)
            ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
            return service if sorted(entry.get("ip", "") for entry in ingress) == sorted(addresses) else None

        return await self.wait(probe, f"status of {namespace}/{name} names {list(addresses)}", timeout_s=timeout_s)

    async def wait_event(self, uid_or_name: str, reason: str, *, timeout_s: float = 5.0) -> Obj:
        """Wait for an Event of this reason about the object."""

        async def probe() -> Obj | None:
            return next(iter(await self.events_of(uid_or_name, reason=reason)), None)

        return await self.wait(probe, f"Event {reason} about {uid_or_name}", timeout_s=timeout_s)

    async def wait_holder(
        self, lease: str, *, namespace: str = "kube-system", other_than: str | None = None, timeout_s: float = 10.0
    ) -> str:
        """Wait until the Lease has a holder (another one than `other_than`); returns its identity."""

        async def probe() -> str | None:
            held = (await self.leases(namespace=namespace)).get(lease, {}).get("spec", {}).get("holderIdentity") or None
            return held if held != other_than else None

        return await self.wait(probe, f"Lease {namespace}/{lease} held by someone other than {other_than}", timeout_s=timeout_s)

    async def set_faults(self, **settings: object) -> None:
        """Change faults of the embedded server, see `lab.apiserver.faults.FaultRequest`."""
        await self.request("PUT", "/_lab/faults", body=settings)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("KubeApi is not open: use `async with`")
        return self._session


def _decoded(method: str, path: str, answer: aiohttp.ClientResponse, content: bytes) -> Obj:
    is_json = answer.content_type == "application/json"
    if answer.status < 300 and is_json:
        return msgspec.json.decode(content, type=Obj)
    status = msgspec.json.decode(content, type=Obj) if is_json and answer.status >= 400 else {}
    message = str(status.get("message") or status.get("error") or content[:200].decode(errors="replace"))
    retry_after_s = float(answer.headers.get("Retry-After") or 0)
    raise ApiError(method, path, status=answer.status, reason=status.get("reason", ""), message=message, retry_after_s=retry_after_s)
