"""Reads claims of addresses out of foreign frames: ARP, neighbour solicitations and advertisements.

In: bytes of one Ethernet frame from the wire, which anybody may have written. Out: a `Claim`, or None for a frame that makes
none or that hosts must discard. Must not raise for any bytes, and must not know which addresses are VIPs.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import Final

from kvip.core.conflict import Claim
from kvip.core.model import Vip

_ARP_HEAD: Final = bytes.fromhex("0806 0001 0800 06 04")
_ARP_BYTES: Final = 42
_ND_BYTES: Final = 78
_NS: Final = 135
_NA: Final = 136
_SOURCE_LINK_LAYER: Final = 1
_TARGET_LINK_LAYER: Final = 2
_NOBODY: Final = bytes(16)
_SOLICITED_NODE: Final = bytes.fromhex("ff02 0000 0000 0000 0000 0001 ff")


def read_claim(frame: bytes) -> Claim | None:
    """The claim that a frame makes, if any. `frame` starts at the Ethernet header and has no VLAN tag."""
    if frame[12:14] == b"\x08\x06":
        return _arp(frame)
    if frame[12:14] == b"\x86\xdd":
        return _neighbour_discovery(frame)
    return None


def _arp(frame: bytes) -> Claim | None:
    """Whoever names itself as an address's sender, in a request or a reply, claims it (RFC 5227 2.4).

    A request that names no sender is a probe of its target (RFC 5227 1.1).
    """
    if len(frame) < _ARP_BYTES or frame[12:20] != _ARP_HEAD or frame[20] != 0 or frame[21] not in (1, 2):
        return None
    mac = frame[22:28] if any(frame[22:28]) else frame[6:12]
    sender, target = frame[28:32], frame[38:42]
    if any(sender):
        return Claim(vip=_text(sender), mac=mac)
    if frame[21] == 1 and any(target):
        return Claim(vip=_text(target), mac=mac, probing=True)
    return None


def _neighbour_discovery(frame: bytes) -> Claim | None:
    """An advertisement claims its target, a solicitation its own source; one without a source probes its target.

    Hop limit 255, code 0 and the lengths are what a host checks before it believes the message (RFC 4861 7.1). An
    extension header before the message is not looked through.
    """
    if len(frame) < _ND_BYTES or frame[14] >> 4 != 6 or frame[20] != 58 or frame[21] != 255 or frame[55] != 0:
        return None
    end = 54 + int.from_bytes(frame[18:20], "big")
    target = frame[62:78]
    if end < _ND_BYTES or end > len(frame) or target[0] == 0xFF or target == _NOBODY:
        return None
    links = _link_layer_options(frame, _ND_BYTES, end)
    if links is None:
        return None
    source, destination = frame[22:38], frame[38:54]
    if frame[54] == _NA:
        # RFC 4861 7.1.2: a multicast advertisement is never a solicited one.
        if destination[0] == 0xFF and frame[58] & 0x40:
            return None
        return Claim(vip=_text(target), mac=links.get(_TARGET_LINK_LAYER, frame[6:12]))
    if frame[54] != _NS:
        return None
    if source == _NOBODY:
        # RFC 4861 7.1.1: to the solicited-node group, and without the source's link-layer address.
        if destination[:13] != _SOLICITED_NODE or _SOURCE_LINK_LAYER in links:
            return None
        return Claim(vip=_text(target), mac=frame[6:12], probing=True)
    return Claim(vip=_text(source), mac=links.get(_SOURCE_LINK_LAYER, frame[6:12]))


def _link_layer_options(frame: bytes, at: int, end: int) -> dict[int, bytes] | None:
    """Option type -> MAC of the link-layer address options; None when the options are malformed (RFC 4861 4.6: length 0)."""
    found: dict[int, bytes] = {}
    while at < end:
        length = frame[at + 1] * 8 if at + 1 < end else 0
        if length == 0 or at + length > end:
            return None
        if length == 8 and frame[at] in (_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER):
            found.setdefault(frame[at], frame[at + 2 : at + 8])
        at += length
    return found


@lru_cache(maxsize=4096)
def _text(raw: bytes) -> Vip:
    if len(raw) == 4:
        return Vip(socket.inet_ntop(socket.AF_INET, raw))
    return Vip(str(ipaddress.IPv6Address(raw)))
