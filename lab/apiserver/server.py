"""The HTTP side: paths, verbs, lists in pages, errors as `metav1.Status`, and the lab's own switches.

Inputs: requests. Outputs: JSON as kube-apiserver sends it. Bearer tokens are accepted and ignored: every client may do everything. Discovery, server-side
apply, protobuf and Tables are not served.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress

import msgspec
from aiohttp import web

from lab.apiserver.faults import FaultRequest, Faults
from lab.apiserver.patch import merge_patch
from lab.apiserver.resources import RESOURCES, Resource
from lab.apiserver.selectors import Predicate, field_predicate, label_predicate
from lab.apiserver.status import Obj, StatusError, expired, future_version, injected, invalid, no_such_path
from lab.apiserver.store import State, Store
from lab.apiserver.watch import WatchOptions, serve_watch

MAX_BODY_BYTES = 3 * 1024 * 1024
"""The real server's limit of a request body."""
DEFAULT_WATCH_TIMEOUT_S = 1800.0
_PATCH_TYPES = frozenset({"application/merge-patch+json", "application/strategic-merge-patch+json"})
_PAGES_KEPT = 100


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a path names."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_path(path: str) -> Target:
    """Read a path of the API. Errors: 404."""
    parts = path.strip("/").split("/")
    group, rest = (
        ("", parts[2:])
        if parts[:2] == ["api", "v1"]
        else (parts[1], parts[3:])
        if parts[0] == "apis" and parts[2:3] == ["v1"]
        else ("", [])
    )
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] in RESOURCES:
        namespace, rest = rest[1], rest[2:]
    resource = RESOURCES.get(rest[0]) if rest else None
    if resource is None or resource.group != group or len(rest) > 3 or "" in rest or (namespace and not resource.namespaced):
        raise no_such_path()
    name, subresource = [*rest[1:], "", ""][:2]
    if (name and resource.namespaced and not namespace) or (subresource and not (subresource == "status" and resource.has_status)):
        raise no_such_path()
    return Target(resource=resource, namespace=namespace, name=name, subresource=subresource)


class ApiServer:
    """The embedded API server; `async with` starts and stops it."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        bookmark_period_s: float = 60.0,
        history_limit: int = 10_000,
        state: State | None = None,
    ) -> None:
        self.host = host
        self.port = port
        """The port; 0 until started when a free one was asked for."""
        self.faults = Faults()
        self._bookmark_period_s = bookmark_period_s
        self._history_limit = history_limit
        self._pages: OrderedDict[str, tuple[int, list[Obj]]] = OrderedDict()
        self._watches: dict[web.Request, str] = {}
        self._runner: web.AppRunner | None = None
        self.store = self._new_store(state)

    @property
    def url(self) -> str:
        """http://host:port, once started."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def __aenter__(self) -> ApiServer:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Errors: OSError when the address cannot be used."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A handler ends when its client goes: stalled requests and idle watches would stay otherwise.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Cut the watches and stop listening."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        self.drop_watches("")
        self.faults.clear()
        async with asyncio.timeout(5):
            await runner.cleanup()

    def drop_watches(self, client: str) -> None:
        """Cut the connections of all watches, or of one client's ("" = all)."""
        for request, remote in list(self._watches.items()):
            if client in {"", remote} and request.transport is not None:
                request.transport.abort()

    def restore_empty(self) -> None:
        """Start the cluster's history anew, as after a restore of etcd: no objects, low versions; watches are cut."""
        self.drop_watches("")
        self._pages.clear()
        self.store = self._new_store(None)

    def _new_store(self, state: State | None) -> Store:
        store = Store(history_limit=self._history_limit, state=state)
        store.hidden_from = self.faults.hidden_from
        return store

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/_lab/"):
            return await self._control(request)
        if request.path in {"/readyz", "/livez", "/healthz"}:
            await self.faults.gate(request.remote or "")
            return web.Response(text="ok")
        client, entry = request.remote or "", (request.method, request.path)
        code = 0
        try:
            target = parse_path(request.path)
            verb = "WATCH" if _is_true(request.query.get("watch")) else request.method
            if verb == "GET" and not target.name:
                verb = "LIST"
            entry = (verb, target.resource.plural + (f"/{target.subresource}" if target.subresource else ""))
            body = await request.read()
            await self.faults.gate(client)
            rule = self.faults.take_rule(client, request.method, request.path_qs)
            if rule is None:
                if verb == "WATCH":
                    return await self._watch(request, target, entry)
                response = self._serve(request, target, verb, body)
            elif rule.apply and verb != "WATCH":
                self._serve(request, target, verb, body)
            if rule is not None:
                if rule.code == 0:
                    if request.transport is not None:
                        request.transport.abort()
                    return web.Response(status=500)
                raise injected(rule.code)
            code = response.status
            return response
        except StatusError as error:
            code = error.code
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
            return _json(error.body(), status=error.code, headers=headers)
        finally:
            if entry[0] != "WATCH" or code:
                self.faults.requests[(client, *entry, code)] += 1

    def _serve(self, request: web.Request, target: Target, verb: str, body: bytes) -> web.Response:
        resource, store = target.resource, self.store
        if verb == "LIST":
            return _json(self._list(request, target))
        if verb == "GET":
            return _json(store.get(resource, target.namespace, target.name))
        if verb == "DELETE":
            return self._delete(request, target, body)
        given = _decode(body)
        if verb == "PATCH" and target.name:
            if request.content_type not in _PATCH_TYPES:
                raise StatusError(415, "415: Unsupported Media Type", details={})
            old = store.get(resource, target.namespace, target.name)
            merged = merge_patch(old, given)
            return _json(store.update(resource, old, _checked(merged, target), subresource=target.subresource, patched=True))
        if verb == "PUT" and target.name:
            given = _checked(given, target)
            try:
                old = store.get(resource, target.namespace, target.name)
            except StatusError:
                if target.subresource:
                    raise
                return _json(store.put_missing(resource, given, target.namespace), status=201)
            return _json(store.update(resource, old, given, subresource=target.subresource))
        if verb == "POST" and not target.name and bool(target.namespace) == resource.namespaced:
            return _json(store.create(resource, _checked(given, target), target.namespace), status=201)
        raise StatusError(405, "the server does not allow this method on the requested resource", details={})

    def _delete(self, request: web.Request, target: Target, body: bytes) -> web.Response:
        resource = target.resource
        if not target.name:
            chosen = [obj for obj in self.store.list(resource, target.namespace) if _matches(request, resource)(obj)]
            for obj in chosen:
                self.store.delete(resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            return _json(self._list_body(resource, chosen))
        options = _decode(body) if body else {}
        gone = self.store.delete(resource, target.namespace, target.name, preconditions=options.get("preconditions"))
        if resource.returns_deleted or gone["metadata"].get("deletionTimestamp"):
            return _json(gone)
        details = {"name": target.name, "kind": resource.plural, "uid": gone["metadata"]["uid"]} | (
            {"group": resource.group} if resource.group else {}
        )
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    def _list(self, request: web.Request, target: Target) -> Obj:
        query, resource, store = request.query, target.resource, self.store
        version, limit = query.get("resourceVersion", ""), int(query.get("limit") or 0)
        if query.get("sendInitialEvents") is not None:
            raise invalid("ListOptions", "meta.k8s.io", "", "sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list")
        if query.get("resourceVersionMatch") and not version:
            problem = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
            raise invalid("ListOptions", "meta.k8s.io", "", "resourceVersionMatch", problem)
        at, matches = store.version, _matches(request, resource)
        if token := query.get("continue"):
            if token not in self._pages:
                raise StatusError(400, "invalid continue token")
            at, rest = self._pages[token]
            if at < store.compacted:
                raise expired("The provided continue parameter is too old to display a consistent list result.")
        else:
            if _version(version) > store.version:
                raise future_version(_version(version), store.version)
            rest = [obj for obj in store.list(resource, target.namespace) if matches(obj)]
            limit = 0 if version == "0" else limit  # served from the watch cache, which ignores the limit
        body = self._list_body(resource, rest[:limit] if limit else rest)
        body["metadata"]["resourceVersion"] = str(at)
        if limit and len(rest) > limit:
            last = rest[limit - 1]["metadata"]
            token = msgspec.json.encode([at, resource.plural, request.query_string, last.get("namespace"), last["name"]]).hex()
            self._pages[token] = (at, rest[limit:])
            if len(self._pages) > _PAGES_KEPT:
                self._pages.popitem(last=False)
            body["metadata"]["continue"] = token
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                body["metadata"]["remainingItemCount"] = len(rest) - limit
        return body

    def _list_body(self, resource: Resource, items: list[Obj]) -> Obj:
        # Items of a list carry neither kind nor apiVersion.
        bare = [{key: value for key, value in item.items() if key not in {"kind", "apiVersion"}} for item in items]
        metadata = {"resourceVersion": str(self.store.version)}
        return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": bare}

    async def _watch(self, request: web.Request, target: Target, entry: tuple[str, str]) -> web.StreamResponse:
        query, client = request.query, request.remote or ""
        version, send_initial = query.get("resourceVersion", ""), query.get("sendInitialEvents")
        if send_initial is not None:
            problem = ""
            if self.faults.on(client, "no_watchlist"):
                problem = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            elif query.get("resourceVersionMatch") != "NotOlderThan":
                problem = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            if problem:
                raise invalid("ListOptions", "meta.k8s.io", "", "sendInitialEvents", problem)
        by_name = f"metadata.name={target.name}" if target.name else ""
        named = field_predicate(by_name, allowed=target.resource.selectable)
        chosen, streamed = _matches(request, target.resource), _is_true(send_initial)
        since, bookmarks = _version(version), _is_true(query.get("allowWatchBookmarks"))
        options = WatchOptions(
            resource=target.resource,
            namespace=target.namespace,
            matches=lambda obj: named(obj) and chosen(obj),
            since=since or None,
            initial=streamed or (send_initial is None and since == 0),
            initial_bookmark=streamed and bookmarks,
            bookmarks=bookmarks,
            timeout_s=float(query.get("timeoutSeconds") or DEFAULT_WATCH_TIMEOUT_S),
            bookmark_period_s=self._bookmark_period_s,
        )
        self._watches[request] = client

        def started() -> None:
            self.faults.requests[(client, *entry, 200)] += 1

        try:
            with suppress(ConnectionResetError):  # the client left, or `drop_watches` cut it
                return await serve_watch(request, self.store, self.faults, options, started=started)
            return web.Response()
        finally:
            del self._watches[request]

    async def _control(self, request: web.Request) -> web.Response:
        """`/_lab/faults` GET and PUT, `/_lab/requests` GET, `/_lab/reset` POST (`?store=true` empties the cluster as well)."""
        action = (request.method, request.path)
        if action == ("PUT", "/_lab/faults"):
            try:
                wanted = msgspec.json.decode(await request.read(), type=FaultRequest)
            except msgspec.MsgspecError as error:
                return _json({"error": str(error)}, status=400)
            self.faults.change(wanted)
            if wanted.compact:
                self.store.compact()
            if wanted.drop_watches:
                self.drop_watches(wanted.client)
        elif action == ("GET", "/_lab/requests"):
            rows = sorted(self.faults.requests.items())
            return _json([{"client": key[0], "verb": key[1], "resource": key[2], "code": key[3], "count": count} for key, count in rows])
        elif action == ("POST", "/_lab/reset"):
            self.faults.clear()
            if _is_true(request.query.get("store")):
                self.restore_empty()
        elif action != ("GET", "/_lab/faults"):
            return _json(no_such_path().body(), status=404)
        return _json({client or "*": msgspec.to_builtins(faults) for client, faults in self.faults.in_force().items()})


def _json(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")


def _decode(body: bytes) -> Obj:
    try:
        return msgspec.json.decode(body, type=Obj)
    except msgspec.MsgspecError as error:
        raise StatusError(400, f"the object provided is unrecognized (must be of type Object): {error}") from error


def _checked(given: object, target: Target) -> Obj:
    """`given` as an object of this kind whose metadata agrees with the path. Errors: 400."""
    resource = target.resource
    if not isinstance(given, dict) or not isinstance(given.get("metadata") or {}, dict):
        raise StatusError(400, "the object provided is unrecognized (must be of type Object)")
    kind, metadata = given.get("kind") or resource.kind, dict(given.get("metadata") or {})
    if (kind, given.get("apiVersion") or resource.api_version) != (resource.kind, resource.api_version):
        raise StatusError(400, f'{kind} in version "v1" cannot be handled as a {resource.kind}')
    if target.name and metadata.setdefault("name", target.name) != target.name:
        raise StatusError(400, f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})")
    if target.namespace and (metadata.get("namespace") or target.namespace) != target.namespace:
        raise StatusError(400, "the namespace of the provided object does not match the namespace sent on the request")
    return given | {"metadata": metadata}


def _matches(request: web.Request, resource: Resource) -> Predicate:
    labels = label_predicate(request.query.get("labelSelector", ""))
    fields = field_predicate(request.query.get("fieldSelector", ""), allowed=resource.selectable)
    return lambda obj: labels(obj) and fields(obj)


def _version(text: str) -> int:
    if text and not text.isdecimal():
        problem = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise StatusError(500, problem, reason="")
    return int(text or 0)


def _is_true(text: str | None) -> bool:
    return text in {"1", "true", "True", "t"}
