"""Reads and writes Leases: consistent GET, POST, and PUT as compare-and-swap.

In: names, specs, the resourceVersion that was read. Out: the Lease as the server stored it. Must not decide who holds what,
retry, or read a clock: after an error the caller reads again and thinks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from kvip.core.objects import Lease, LeaseSpec
from kvip.errors import ApiError
from kvip.kube.api import Api, path_of
from kvip.kube.decode import ObjectDecoder

_WRITER = {"fieldManager": "kvip"}


class _Metadata(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    resource_version: str = ""
    uid: str = ""
    annotations: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None


class _LeaseBody(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: _Metadata
    spec: LeaseSpec


def micro_time(moment: datetime) -> str:
    """metav1.MicroTime in UTC: "2026-11-24T02:00:00.000000Z". `moment` must be aware."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaseClient:
    """The Leases of one namespace. Every failure is an `ApiError`; one of status 0 may have been carried out."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._decoder = ObjectDecoder(Lease)

    @property
    def collection(self) -> str:
        """The path to list and watch; one Lease: `params={"fieldSelector": "metadata.name=NAME"}`."""
        return path_of("apis", "coordination.k8s.io", "v1", "namespaces", self._namespace, "leases")

    async def get(self, name: str, *, deadline_s: float) -> Lease | None:
        """The Lease as etcd has it, not a cache's (no resourceVersion parameter); None = there is none."""
        try:
            raw = await self._api.get(self.collection + path_of(name), deadline_s=deadline_s)
        except ApiError as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise
        return self._decoder.item(raw)

    async def list_all(self, *, labels: str, deadline_s: float) -> tuple[list[Lease], str]:
        """The Leases with these labels as etcd has them (no resourceVersion parameter), and the version of the list.

        Raises ApiError; a Lease that cannot be read is one too: what is missing must not count as absent.
        """
        raw = await self._api.get(self.collection, params={"labelSelector": labels}, deadline_s=deadline_s)
        page = self._decoder.page(raw)
        if page.broken:
            raise ApiError("GET", self.collection, status=0, reason="Unreadable", message=str(page.broken[0]))
        return list(page.items), page.resource_version

    async def create(
        self,
        name: str,
        spec: LeaseSpec,
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        deadline_s: float,
    ) -> Lease:
        """Create it; `ApiError` 409 "AlreadyExists" when another was quicker."""
        metadata = _Metadata(name=name, namespace=self._namespace, annotations=annotations, labels=labels)
        raw = await self._api.post(self.collection, params=_WRITER, body=_encode(metadata, spec), deadline_s=deadline_s)
        return self._decoder.item(raw)

    async def replace(
        self,
        name: str,
        spec: LeaseSpec,
        *,
        resource_version: str,
        uid: str = "",
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        deadline_s: float,
    ) -> Lease:
        """Replace it if nobody wrote since `resource_version`; else `ApiError` 409. Annotations and labels are replaced whole.

        Raises ValueError for an empty `resource_version`: the server would take that as "whatever is there".
        """
        if not resource_version:
            raise ValueError(f"lease {name}: a replacement needs the resourceVersion that was read")
        metadata = _Metadata(
            name=name, namespace=self._namespace, resource_version=resource_version, uid=uid, annotations=annotations, labels=labels
        )
        raw = await self._api.put(self.collection + path_of(name), params=_WRITER, body=_encode(metadata, spec), deadline_s=deadline_s)
        return self._decoder.item(raw)


def _encode(metadata: _Metadata, spec: LeaseSpec) -> bytes:
    return msgspec.json.encode(_LeaseBody(api_version="coordination.k8s.io/v1", kind="Lease", metadata=metadata, spec=spec))
