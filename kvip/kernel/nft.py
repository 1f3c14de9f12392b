"""The bytes of nf_tables netlink messages, both ways: set and map elements, and the dumps that show what is there.

In: names, keys, verdicts, timeouts; bytes that the kernel sent. Out: a batch, ready to be sent as one transaction; elements and
objects as the kernel has them. No socket, no state.

Layouts: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h. Numbers in attributes are in network byte order, unlike
rtnetlink's; headers are in host byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from kvip.kernel.codec import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, DecodeError, Message

NFPROTO: Final = {"inet": 1, "arp": 3, "netdev": 5}
"""linux/netfilter.h."""
_FAMILY: Final = {number: name for name, number in NFPROTO.items()}

SUBSYS_NFTABLES: Final = 10
GETTABLE, DELTABLE = 1, 2
GETCHAIN, GETRULE, GETSET = 4, 7, 10
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14
NEWGEN, GETGEN = 15, 16
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_GOTO: Final = -4  # NFT_GOTO

_HEAD: Final = struct.Struct("=IHHII")
_NFGEN: Final = struct.Struct("!BBH")
_ATTR: Final = struct.Struct("=HH")
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_ELEM_KEY, _ELEM_DATA, _ELEM_TIMEOUT, _ELEM_EXPIRATION = 1, 2, 4, 5
_PAYLOAD: Final = 20
"""nlmsghdr and nfgenmsg, in front of the attributes."""

_COUNTERS: Final = {GETTABLE - 1: {3}, GETCHAIN - 1: {6, 8}, GETRULE - 1: set[int](), GETSET - 1: {20}}
"""Attributes that count, and so change without a change: NFTA_TABLE_USE, NFTA_CHAIN_USE and _COUNTERS, NFTA_SET_COUNT."""


ChangeKind = Literal["add", "delete"]


class Element(NamedTuple):
    """A set or map element. `chain` is its verdict's, "" in a set; `left_ms` what is left of its timeout, None without one."""

    key: bytes
    chain: str = ""
    left_ms: int | None = None


class Request(NamedTuple):
    """A message without its sequence number: what `batch` and the socket number and send."""

    type: int
    flags: int
    body: bytes


def _attr(kind: int, value: bytes) -> bytes:
    return _ATTR.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _text(kind: int, value: str) -> bytes:
    return _attr(kind, value.encode() + b"\0")


def _body(family: str | int, *attributes: bytes, resource: int = 0) -> bytes:
    number = family if isinstance(family, int) else NFPROTO[family]
    return _NFGEN.pack(number, 0, resource) + b"".join(attributes)


def element(key: bytes, *, chain: str = "", timeout_ms: int = 0) -> bytes:
    """One element of a list: `chain` makes it a map's, with the verdict `goto chain`; `timeout_ms` 0 = it stays."""
    rest = _verdict(chain) if chain else b""
    if timeout_ms:
        rest += _attr(_ELEM_TIMEOUT, struct.pack("!Q", timeout_ms))
    return b"".join((_up_to_key(len(key), len(rest)), key, bytes(-len(key) % 4), rest))


@lru_cache(maxsize=256)
def _verdict(chain: str) -> bytes:
    return _attr(_ELEM_DATA | _NESTED, _attr(2 | _NESTED, _attr(1, struct.pack("!i", _GOTO)) + _text(2, chain)))


@lru_cache(maxsize=256)
def _up_to_key(key_bytes: int, rest_bytes: int) -> bytes:
    """What comes before the key of an element: the heads of the attributes that it is in."""
    whole = _attr(1 | _NESTED, _attr(_ELEM_KEY | _NESTED, _attr(1, bytes(key_bytes))) + bytes(rest_bytes))
    return whole[: len(whole) - rest_bytes - key_bytes - -key_bytes % 4]


def change_elements(kind: ChangeKind, family: str, table: str, name: str, elements: Iterable[bytes], *, exclusive: bool = False) -> Request:
    """Add or delete elements of one set. An attribute is at most 64 KiB long: the caller sends at most 500 at once.

    `exclusive`: an element that is there already fails with EEXIST; without it the kernel lets it pass (since 6.12 with a new timeout).
    """
    listed = _attr(_LIST_ELEMENTS | _NESTED, b"".join(elements))
    body = _body(family, _text(_LIST_TABLE, table), _text(_LIST_SET, name), listed)
    flags = NLM_F_REQUEST | NLM_F_ACK
    if kind == "delete":
        return Request(DELSETELEM, flags, body)
    return Request(NEWSETELEM, flags | NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0), body)


def flush_elements(family: str, table: str, name: str) -> Request:
    """Empty a set: nf_tables_delsetelem without a list of elements. An empty set is no error."""
    return Request(DELSETELEM, NLM_F_REQUEST | NLM_F_ACK, _body(family, _text(_LIST_TABLE, table), _text(_LIST_SET, name)))


def delete_table(family: str, table: str) -> Request:
    """Remove a table and everything in it."""
    return Request(DELTABLE, NLM_F_REQUEST | NLM_F_ACK, _body(family, _text(1, table)))


def dump(kind: int, family: str, table: str, name: str = "") -> Request:
    """Everything of one kind (GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM) in one family.

    The kernel filters rules, sets and elements by table, but sends the tables and chains of the whole family.
    """
    attributes = [] if kind in (GETTABLE, GETCHAIN) else [_text(1, table)]
    if kind == GETSETELEM:
        attributes.append(_text(_LIST_SET, name))
    return Request(kind, NLM_F_REQUEST | NLM_F_DUMP, _body(family, *attributes))


def generation() -> Request:
    """The number of the last transaction in this network namespace, whoever made it."""
    return Request(GETGEN, NLM_F_REQUEST | NLM_F_ACK, _body(0))


def message(request: Request, *, sequence: int) -> bytes:
    """The request as a netlink message to nf_tables."""
    return _HEAD.pack(16 + len(request.body), SUBSYS_NFTABLES << 8 | request.type, request.flags, sequence, 0) + request.body


def batch(requests: Sequence[Request], *, first_sequence: int) -> bytes:
    """One transaction: request n has sequence number `first_sequence` + n + 1; the frame around them has the first and the last."""
    frame = _NFGEN.pack(0, 0, SUBSYS_NFTABLES)
    parts = [_HEAD.pack(_PAYLOAD, _BATCH_BEGIN, NLM_F_REQUEST, first_sequence, 0), frame]
    parts += [message(request, sequence=first_sequence + number) for number, request in enumerate(requests, start=1)]
    parts += [_HEAD.pack(_PAYLOAD, _BATCH_END, NLM_F_REQUEST, first_sequence + len(requests) + 1, 0), frame]
    return b"".join(parts)


# -- what the kernel sends ---------------------------------------------------------------------------------------------------


def is_nftables(received: Message) -> bool:
    """Is it a message of nf_tables (an object, a notification), rather than one of netlink itself?"""
    return received.type >> 8 == SUBSYS_NFTABLES


def kind_of(received: Message) -> int:
    """NFT_MSG_* of a message for which `is_nftables` holds."""
    return received.type & 0xFF


def family_of(received: Message) -> str:
    """The family; "" for one that kvip has no table in."""
    if received.end - received.start < _NFGEN.size:
        raise DecodeError("nf_tables message: too short for its header; it is discarded")
    return _FAMILY.get(received.data[received.start], "")


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute. Raises DecodeError where a length does not fit."""
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise DecodeError(f"nf_tables attribute {kind & _TYPE_MASK}: length {length} with {end - offset} bytes left; discarded")
        yield kind & _TYPE_MASK, bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3


def table_of(received: Message) -> str:
    """The table that an object is or belongs to: attribute 1 of every kind but NFT_MSG_NEWGEN's; "" without one."""
    if kind_of(received) in (NEWGEN, GETGEN):
        return ""
    return next((_string(value) for kind, value in _top(received) if kind == 1), "")


def chain_name(received: Message) -> str:
    """The name in an NFT_MSG_NEWCHAIN."""
    return next((_string(value) for kind, value in _top(received) if kind == 3), "")


def set_name(received: Message) -> str:
    """The name in an NFT_MSG_NEWSET."""
    return next((_string(value) for kind, value in _top(received) if kind == 2), "")


def decode_elements(received: Message) -> list[Element]:
    """The elements in an NFT_MSG_NEWSETELEM, expired ones that were not yet removed left out by the kernel."""
    return [_element(value) for kind, listed in _top(received) if kind == _LIST_ELEMENTS for _, value in attributes(listed)]


def raw_elements(received: Message) -> list[bytes]:
    """The elements in an NFT_MSG_NEWSETELEM as they are, comments included: equal as long as nobody changed them, without timeouts."""
    return [value for kind, listed in _top(received) if kind == _LIST_ELEMENTS for _, value in attributes(listed)]


def decode_generation(received: Message) -> int:
    """The number in an NFT_MSG_NEWGEN."""
    for kind, value in _top(received):
        if kind == 1 and len(value) == 4:
            return int.from_bytes(value, "big")
    raise DecodeError("nf_tables generation: no number; it is discarded")


def fingerprint(received: Message) -> bytes:
    """An object without its counters: equal as long as nobody changed or replaced it (a handle is never used twice)."""
    counters = _COUNTERS.get(kind_of(received), set())
    kept = [_attr(kind, value) for kind, value in _top(received) if kind not in counters]
    return bytes([kind_of(received)]) + b"".join(kept)


def _element(data: bytes) -> Element:
    key, chain, left_ms = b"", "", None
    for kind, value in attributes(data):
        if kind == _ELEM_KEY:
            key = next((raw for inner, raw in attributes(value) if inner == 1), b"")
        elif kind == _ELEM_DATA:
            verdict = next((raw for inner, raw in attributes(value) if inner == 2), b"")
            chain = next((_string(raw) for inner, raw in attributes(verdict) if inner == 2), "")
        elif kind == _ELEM_EXPIRATION and len(value) == 8:
            left_ms = int.from_bytes(value, "big")
    if not key:
        raise DecodeError("nf_tables element without a key; it is discarded")
    return Element(key, chain, left_ms)


def _top(received: Message) -> Iterator[tuple[int, bytes]]:
    return attributes(received.data[received.start + _NFGEN.size : received.end])


def _string(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
