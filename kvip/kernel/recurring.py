"""Decodes address messages that come by the thousand: what differs from an earlier one in address and times only is not parsed again.

In: a message as `codec` found it. Out: exactly what `codec.decode_address` makes of it, which decodes each kind the first time. A kind is
all the bytes but those of the address and of the times: attributes, their order and lengths, NIC, flags, label, mark.

The order of attributes is the kernel's: IFA_ADDRESS, IFA_LOCAL, ..., IFA_CACHEINFO last for IPv4 (net/ipv4/devinet.c, inet_fill_ifaddr);
IFA_ADDRESS, IFA_CACHEINFO, ... for IPv6 (net/ipv6/addrconf.c, inet6_fill_ifaddr). Anything else is left to the codec each time.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from kvip.core.model import Address, IfIndex, Vip
from kvip.kernel import codec
from kvip.kernel.codec import Message

MOST_KINDS: Final = 256

_IPV6: Final = bytes([socket.AF_INET6])
_HEAD: Final = 8
"""ifaddrmsg."""
_SHORTEST: Final = 48
"""What a key leaves out is there whole in a message of at least this length: then its length follows from that of its key."""
_TIMES: Final = struct.Struct("=II")
_FOREVER: Final = 0xFFFFFFFF


class _Kind(NamedTuple):
    """What all messages of a kind say alike."""

    prefix_len: int
    nic: IfIndex
    proto: int
    flags: int
    scope: int
    label: str


_kinds: dict[bytes, _Kind] = {}


def decode_address(message: Message) -> Address | None:
    """See `codec.decode_address`."""
    payload = bytes(message.data[message.start : message.end])
    six = payload[:1] == _IPV6
    if len(payload) < _SHORTEST:
        return codec.decode_address(message)
    if six:
        key = b"".join((payload[:12], payload[28:32], payload[48:]))
    elif payload[12:16] == payload[20:24]:
        key = b"".join((payload[:12], payload[16:20], payload[24:-16]))
    else:
        return codec.decode_address(message)
    kind = _kinds.get(key)
    if kind is None:
        address = codec.decode_address(message)
        if address is not None and _is_plain(payload, six=six):
            if len(_kinds) >= MOST_KINDS:
                _kinds.clear()
            _kinds[key] = _Kind(address.prefix_len, address.index, address.proto, address.flags, address.scope, address.label)
        return address
    preferred, valid = _TIMES.unpack_from(payload, 32 if six else len(payload) - 16)
    return Address(
        ip=codec.address_text(payload[12:28]) if six else Vip(socket.inet_ntop(socket.AF_INET, payload[12:16])),
        prefix_len=kind.prefix_len,
        index=kind.nic,
        proto=kind.proto,
        flags=kind.flags,
        scope=kind.scope,
        label=kind.label,
        valid_s=None if valid == _FOREVER else valid,
        preferred_s=None if preferred == _FOREVER else preferred,
    )


def _is_plain(payload: bytes, *, six: bool) -> bool:
    """Are address and times where the key leaves them out, and nowhere else?"""
    found = [(kind, first) for kind, first, _ in codec.attributes(payload, _HEAD, len(payload))]
    said_once = [kind for kind, _ in found if kind in (codec.IFA_ADDRESS, codec.IFA_LOCAL, codec.IFA_CACHEINFO)]
    if six:
        places = [(codec.IFA_ADDRESS, 12), (codec.IFA_CACHEINFO, 32)]
    else:
        places = [(codec.IFA_ADDRESS, 12), (codec.IFA_LOCAL, 20), (codec.IFA_CACHEINFO, len(payload) - 16)]
    return found[:2] == places[:2] and places[-1] in found and sorted(said_once) == sorted(kind for kind, _ in places)
