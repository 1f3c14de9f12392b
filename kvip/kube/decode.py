"""From the API server's JSON to the records of `core.objects`, one kind per decoder.

In: the body of a list, or a line of a watch. Out: typed records; for each object that is not of the expected shape a
`DecodeError` that names it, so that one bad object never hides the others. Must not decide what an error means.
"""

from __future__ import annotations

from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from kvip.core.objects import ObjectMeta
from kvip.errors import UNREADABLE, KvipError

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a WatchList stream (KEP-3157)."""


class ApiObject(Protocol):
    """What every decoded kind has."""

    @property
    def metadata(self) -> ObjectMeta: ...


T = TypeVar("T", bound=ApiObject)


class _IdentityMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class Identity(msgspec.Struct):
    """Who an object is, decodable where its other fields are not."""

    metadata: _IdentityMeta = msgspec.field(default_factory=_IdentityMeta)

    @property
    def key(self) -> str:
        """namespace/name, or the name alone for a cluster-wide object; empty when unknown."""
        return _key(self.metadata.namespace, self.metadata.name)


class DecodeError(KvipError):
    """An object of another shape than its kind has. `key` and `uid` are empty where they cannot be read either."""

    def __init__(self, kind: str, identity: Identity, problem: str) -> None:
        self.kind = kind
        self.key = identity.key
        self.uid = identity.metadata.uid
        self.resource_version = identity.metadata.resource_version
        self.problem = problem
        super().__init__(f"{kind} {self.key or '(no name)'}: {problem}; its last good version stays in use")


class EnvelopeError(KvipError):
    """An answer that is no list, or a line that is no watch event: nothing in it can be used."""


class Change(msgspec.Struct, Generic[T], frozen=True):
    """ADDED or MODIFIED."""

    item: T


class Removal(msgspec.Struct, frozen=True):
    """DELETED; only the identity is read, so that a deletion always counts."""

    key: str
    uid: str
    resource_version: str


class Bookmark(msgspec.Struct, frozen=True):
    """Progress without an object; `initial_end` closes the initial events of a WatchList stream."""

    resource_version: str
    initial_end: bool


class Failure(msgspec.Struct, frozen=True):
    """ERROR: the server ends this watch; `code` as in HTTP, 410 = the resourceVersion is too old."""

    code: int
    reason: str
    message: str


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One answer to a list request."""

    items: tuple[T, ...]
    broken: tuple[DecodeError, ...]
    resource_version: str
    token: str
    """For the next page; empty = this was the last."""


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    token: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, Generic[T]):
    metadata: _ListMeta
    items: tuple[T, ...] | None = None


class _RawList(msgspec.Struct):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class _Line(msgspec.Struct):
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


class _Bookmarked(msgspec.Struct):
    metadata: ObjectMeta


_raw_list = msgspec.json.Decoder(_RawList)
_line = msgspec.json.Decoder(_Line)
_status = msgspec.json.Decoder(_Status)
_bookmarked = msgspec.json.Decoder(_Bookmarked)
_identity = msgspec.json.Decoder(Identity)


def object_key(item: ApiObject) -> str:
    """namespace/name, or the name alone for a cluster-wide object."""
    return _key(item.metadata.namespace, item.metadata.name)


class ObjectDecoder(Generic[T]):
    """Decoders for one kind: `ObjectDecoder(Service)`."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind.__name__
        self._item = msgspec.json.Decoder(kind)
        self._list: msgspec.json.Decoder[_List[T]] = msgspec.json.Decoder(_List[kind])  # type: ignore[valid-type]

    def item(self, raw: bytes | msgspec.Raw) -> T:
        """One object. Raises `DecodeError`."""
        try:
            found = self._item.decode(raw)
        except UNREADABLE as error:
            raise DecodeError(self.kind, _identify(raw), str(error)) from error
        if not found.metadata.name:
            raise DecodeError(self.kind, Identity(), "no metadata.name")
        return found

    def page(self, raw: bytes) -> Page[T]:
        """One page of a list; objects that cannot be decoded are in `broken`. Raises `EnvelopeError`."""
        try:
            page = self._list.decode(raw)
        except UNREADABLE:
            return self._page_one_by_one(raw)
        items = page.items or ()
        if not all(item.metadata.name for item in items):
            return self._page_one_by_one(raw)
        return Page(items=items, broken=(), resource_version=page.metadata.resource_version, token=page.metadata.token)

    def event(self, line: bytes) -> Change[T] | Removal | Bookmark | Failure:
        """One line of a watch. Raises `DecodeError` for a bad object, `EnvelopeError` for a line that is no event."""
        try:
            envelope = _line.decode(line)
            match envelope.type:
                case "BOOKMARK":
                    metadata = _bookmarked.decode(envelope.object).metadata
                    return Bookmark(metadata.resource_version, (metadata.annotations or {}).get(INITIAL_EVENTS_END) == "true")
                case "ERROR":
                    status = _status.decode(envelope.object)
                    return Failure(status.code, status.reason, status.message)
        except UNREADABLE as error:
            raise EnvelopeError(f"no watch event of {self.kind}: {error}; the watch is opened anew") from error
        if envelope.type != "DELETED":
            return Change(self.item(envelope.object))
        identity = _identify(envelope.object)
        if not identity.key:
            raise DecodeError(self.kind, identity, "deleted object without a name")
        return Removal(identity.key, identity.metadata.uid, identity.metadata.resource_version)

    def _page_one_by_one(self, raw: bytes) -> Page[T]:
        try:
            page = _raw_list.decode(raw)
        except UNREADABLE as error:
            raise EnvelopeError(f"no list of {self.kind}: {error}; it is asked for again") from error
        items: list[T] = []
        broken: list[DecodeError] = []
        for one in page.items or ():
            try:
                items.append(self.item(one))
            except DecodeError as error:
                broken.append(error)
        return Page(items=tuple(items), broken=tuple(broken), resource_version=page.metadata.resource_version, token=page.metadata.token)


def _identify(raw: bytes | msgspec.Raw) -> Identity:
    try:
        return _identity.decode(raw)
    except UNREADABLE:
        return Identity()


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace and name else name
