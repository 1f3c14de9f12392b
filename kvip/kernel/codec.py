"""The bytes of rtnetlink address messages, both ways.

In: an `Address` to add, replace, delete or ask for; bytes that the kernel sent. Out: request bytes, identical to what
pyroute2 encodes; the messages in a datagram, and the `Address`, acknowledgement or end of dump in each.
No socket, no state. Bytes that cannot be decoded raise `DecodeError`, never anything else.

Layouts: linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h. Netlink is in host byte order; addresses in network order.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from kvip.core.model import Address, IfIndex, Vip, is_ipv6, packed
from kvip.errors import KvipError

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22

NLM_F_REQUEST: Final = 0x01
NLM_F_ACK: Final = 0x04
NLM_F_ECHO: Final = 0x08
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200

IFA_F_NODAD: Final = 0x02
IFA_F_NOPREFIXROUTE: Final = 0x200

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
_IFA_LABEL: Final = 3
IFA_CACHEINFO: Final = 6
_IFA_FLAGS: Final = 8
_IFA_PROTO: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1
_NLA_TYPE_MASK: Final = 0x3FFF
_FOREVER: Final = 0xFFFFFFFF

Kind = Literal["add", "replace", "delete"]

_CHANGES: Final[dict[Kind, tuple[int, int]]] = {
    "add": (RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL),
    "replace": (RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE),
    "delete": (RTM_DELADDR, NLM_F_REQUEST),
}

# nlmsghdr: length, type, flags, sequence, port; then ifaddrmsg: family, prefix length, flags, scope, index.
_HEAD: Final = struct.Struct("=IHHII")
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_ATTR: Final = struct.Struct("=HH")
_U32: Final = struct.Struct("=I")
_CACHEINFO: Final = struct.Struct("=II")
_ERROR: Final = struct.Struct("=i")
_GET4: Final = struct.Struct("=IHHIIBBBBIHH4s")
_GET6: Final = struct.Struct("=IHHIIBBBBIHH16s")
# Header, ifaddrmsg, IFA_LOCAL, IFA_ADDRESS.
_DELETE4: Final = struct.Struct("=IHHIIBBBBIHH4sHH4s")
_DELETE6: Final = struct.Struct("=IHHIIBBBBIHH16sHH16s")
# The same, then IFA_FLAGS and IFA_CACHEINFO.
_NEW4: Final = struct.Struct("=IHHIIBBBBIHH4sHH4sHHIHHIIII")
_NEW6: Final = struct.Struct("=IHHIIBBBBIHH16sHH16sHHIHHIIII")
_PROTO: Final = struct.Struct("=HHBxxx")


class DecodeError(KvipError):
    """Bytes from a netlink socket that are not what their headers say."""


class Message(NamedTuple):
    """One netlink message inside `data`; its payload is `data[start:end]`. A tuple, for the cost of making one."""

    type: int
    flags: int
    sequence: int
    data: bytes | memoryview
    start: int
    end: int


class Ack(NamedTuple):
    """An NLMSG_ERROR or NLMSG_DONE: `errno` is positive, 0 = success; `ext_ack` is the kernel's text."""

    errno: int
    ext_ack: str


def encode_change(kind: Kind, address: Address, *, sequence: int, ack: bool = True, echo: bool = False) -> bytes:
    """A request to add, replace or delete `address`; with `echo` the kernel sends its notification back.

    Without `ack` only a failure is answered (netlink_rcv_skb, net/netlink/af_netlink.c).

    A delete names only address, peer, prefix length and NIC: an IFA_LABEL would have to match too (devinet.c).
    """
    message, flags = _CHANGES[kind]
    if ack:
        flags |= NLM_F_ACK
    if echo:
        flags |= NLM_F_ECHO
    local = packed(address.ip)
    other = packed(Vip(address.peer)) if address.peer else local
    six = is_ipv6(address.ip)
    family = socket.AF_INET6 if six else socket.AF_INET
    attr = 20 if six else 8
    if kind == "delete":
        layout = _DELETE6 if six else _DELETE4
        return layout.pack(
            layout.size, message, flags, sequence, 0, family, address.prefix_len, 0, 0, address.index,
            attr, IFA_LOCAL, local, attr, IFA_ADDRESS, other,
        )  # fmt: skip
    tail = b""
    if address.proto:
        tail = _PROTO.pack(5, _IFA_PROTO, address.proto)
    if address.label:
        label = address.label.encode() + b"\0"
        tail += _ATTR.pack(4 + len(label), _IFA_LABEL) + label + bytes(-len(label) % 4)
    layout = _NEW6 if six else _NEW4
    return layout.pack(
        layout.size + len(tail), message, flags, sequence, 0,
        family, address.prefix_len, address.flags & 0xFF, address.scope, address.index,
        attr, IFA_LOCAL, local, attr, IFA_ADDRESS, other,
        8, _IFA_FLAGS, address.flags, 20, IFA_CACHEINFO,
        _FOREVER if address.preferred_s is None else address.preferred_s,
        _FOREVER if address.valid_s is None else address.valid_s, 0, 0,
    ) + tail  # fmt: skip


def encode_get(address: Address, *, sequence: int) -> bytes:
    """A request for one address on one NIC. The kernel has that for IPv6 only (inet6_rtm_getaddr)."""
    six = is_ipv6(address.ip)
    layout, family, attr = (_GET6, socket.AF_INET6, 20) if six else (_GET4, socket.AF_INET, 8)
    return layout.pack(
        layout.size, RTM_GETADDR, NLM_F_REQUEST, sequence, 0, family, 0, 0, 0, address.index, attr, IFA_ADDRESS, packed(address.ip)
    )


def encode_end(*, sequence: int) -> bytes:
    """A request that asks for nothing but its acknowledgement: once that is here, what was sent before is done and answered.

    The kernel takes the messages of a datagram in their order, and acknowledges a control message without a look (netlink_rcv_skb).
    """
    return _HEAD.pack(_HEAD.size, NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, sequence, 0)


def encode_dump(*, sequence: int) -> bytes:
    """A request for all addresses of the network namespace, both families."""
    size = _HEAD.size + _IFADDRMSG.size
    return _HEAD.pack(size, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, 0) + _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def messages(data: bytes | memoryview) -> Iterator[Message]:
    """The messages of one datagram. Raises `DecodeError` where a length does not fit, after those before it."""
    offset, total = 0, len(data)
    while offset < total:
        if total - offset < _HEAD.size:
            raise DecodeError(f"netlink datagram: {total - offset} bytes left, too few for a header; the datagram is discarded")
        length, kind, flags, sequence, _ = _HEAD.unpack_from(data, offset)
        if length < _HEAD.size or offset + length > total:
            raise DecodeError(f"netlink message of type {kind}: length {length} with {total - offset} bytes left; it is discarded")
        yield Message(kind, flags, sequence, data, offset + _HEAD.size, offset + length)
        offset += (length + 3) & ~3


def decode_address(message: Message) -> Address | None:
    """The address in an RTM_NEWADDR or RTM_DELADDR; None for a family other than IPv4 and IPv6 (MCTP, Phonet, ...)."""
    _, _, _, data, start, end = message
    if end - start < _IFADDRMSG.size:
        raise DecodeError(f"address message: {end - start} bytes of payload, need {_IFADDRMSG.size}; it is discarded")
    family, prefix_len, flags, scope, index = _IFADDRMSG.unpack_from(data, start)
    if family == socket.AF_INET:
        width = 4
    elif family == socket.AF_INET6:
        width = 16
    else:
        return None
    local = other = None
    proto, label, valid, preferred = 0, "", _FOREVER, _FOREVER
    for kind, first, last in attributes(data, start + _IFADDRMSG.size, end):
        if kind == IFA_ADDRESS:
            other = _exactly(data, first, last, width=width)
        elif kind == IFA_LOCAL:
            local = _exactly(data, first, last, width=width)
        elif kind == _IFA_FLAGS:
            (flags,) = _U32.unpack(_exactly(data, first, last, width=4))
        elif kind == IFA_CACHEINFO:
            preferred, valid = _CACHEINFO.unpack(_exactly(data, first, last, width=16)[:8])
        elif kind == _IFA_PROTO:
            proto = _exactly(data, first, last, width=1)[0]
        elif kind == _IFA_LABEL:
            label = _text(data, first, last)
    own = local or other
    if own is None:
        raise DecodeError(f"address message for NIC {index}: neither IFA_LOCAL nor IFA_ADDRESS; it is discarded")
    return Address(
        ip=address_text(own),
        prefix_len=prefix_len,
        index=IfIndex(index),
        proto=proto,
        flags=flags,
        scope=scope,
        label=label,
        valid_s=None if valid == _FOREVER else valid,
        preferred_s=None if preferred == _FOREVER else preferred,
        peer="" if other is None or other == own else address_text(other),
    )


def decode_ack(message: Message) -> Ack:
    """The result in an NLMSG_ERROR (an acknowledgement when its errno is 0) or an NLMSG_DONE (a dump's last word)."""
    kind, flags, _, data, start, end = message
    if end - start < _ERROR.size:
        if kind == NLMSG_DONE:
            return Ack(0, "")
        raise DecodeError(f"netlink acknowledgement: {end - start} bytes of payload, need {_ERROR.size}; it is discarded")
    (code,) = _ERROR.unpack_from(data, start)
    text = ""
    if flags & NLM_F_ACK_TLVS:
        first = start + _ERROR.size
        if kind == NLMSG_ERROR:
            # The request's header follows, and its whole payload too unless NETLINK_CAP_ACK cut it off.
            if end - first < _HEAD.size:
                raise DecodeError("netlink acknowledgement: the request's header is cut short; it is discarded")
            quoted = _HEAD.unpack_from(data, first)[0]
            first += _HEAD.size if flags & NLM_F_CAPPED or quoted < _HEAD.size else (quoted + 3) & ~3
        for attribute, begin, stop in attributes(data, first, end):
            if attribute == _NLMSGERR_ATTR_MSG:
                text = _text(data, begin, stop)
    return Ack(-code if code < 0 else code, text)


def attributes(data: bytes | memoryview, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, first byte and end of each attribute's value."""
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise DecodeError(f"netlink attribute {kind & _NLA_TYPE_MASK}: length {length} with {end - offset} bytes left; discarded")
        yield kind & _NLA_TYPE_MASK, offset + 4, offset + length
        offset += (length + 3) & ~3


def _exactly(data: bytes | memoryview, first: int, last: int, *, width: int) -> bytes:
    if last - first != width:
        raise DecodeError(f"netlink attribute: {last - first} bytes, need {width}; the message is discarded")
    return bytes(data[first:last])


def _text(data: bytes | memoryview, first: int, last: int) -> str:
    """A NUL-terminated string; a NIC's name may be any bytes but '/' and white space (dev_valid_name)."""
    return bytes(data[first:last]).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def address_text(raw: bytes) -> Vip:
    """Canonical text. glibc writes IPv4-mapped addresses with dots; the key that kvip uses, `ipaddress`'s form, may not."""
    if len(raw) == 4:
        return Vip(socket.inet_ntop(socket.AF_INET, raw))
    text = socket.inet_ntop(socket.AF_INET6, raw)
    return Vip(str(ipaddress.IPv6Address(raw)) if "." in text else text)
