"""Frames that ask whether an address is free, without claiming it: ARP probes and DAD solicitations.

In: a MAC and VIPs. Out: bytes of whole frames. Must not send, and must not hold policy (how often, how long, for which).
Neither kind changes a neighbour's cache: the ARP sender address is 0.0.0.0, the IPv6 source is ::.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from kvip.core.model import Vip, packed

ARP_PROBE_LEN = 60
DAD_LEN = 78

_ARP_HEAD = bytes.fromhex("0806 0001 0800 06 04 0001")
_SOLICITED_NODE = bytes.fromhex("ff02 0000 0000 0000 0000 0001 ff")
_WORDS_16 = struct.Struct("!8H")


def build_probes(mac: bytes, vips: Sequence[Vip]) -> list[tuple[bytes, int]]:
    """One probe of each VIP, as (buffer, frame length) per family that occurs, IPv4 first; order as in `vips`.

    Raises ValueError when `mac` is not 6 bytes.
    """
    if len(mac) != 6:
        raise ValueError(f"mac is {len(mac)} bytes, must be 6")
    addresses = list(map(packed, vips))
    groups = [
        (_arp_probes(mac, [address for address in addresses if len(address) == 4]), ARP_PROBE_LEN),
        (_dad_solicitations(mac, [address for address in addresses if len(address) == 16]), DAD_LEN),
    ]
    return [(frames, frame_len) for frames, frame_len in groups if frames]


def solicited_node_mac(address: bytes) -> bytes:
    """The Ethernet group that solicitations for a 16-byte address go to (RFC 4291 2.7.1, RFC 2464 7)."""
    return b"\x33\x33\xff" + address[13:16]


def _arp_probes(mac: bytes, addresses: Iterable[bytes]) -> bytes:
    """RFC 5227 2.1.1: a broadcast request, sender address 0.0.0.0, target hardware address zero."""
    head = b"\xff" * 6 + mac + _ARP_HEAD + mac + bytes(4) + bytes(6)
    padding = bytes(ARP_PROBE_LEN - 42)
    return b"".join([head + address + padding for address in addresses])


def _dad_solicitations(mac: bytes, addresses: Iterable[bytes]) -> bytes:
    """RFC 4862 5.4.2: source ::, to the target's solicited-node group, no option."""
    # Payload length 24, next header 58, hop limit 255 (RFC 4861 4.3, 7.1.1).
    ip_head = bytes.fromhex("86dd 6000 0000 0018 3a ff") + bytes(16) + _SOLICITED_NODE
    # RFC 8200 8.1: pseudo-header and message, without what depends on the target; 0xff00 is the group's last whole word.
    fixed = sum(struct.unpack("!6H", _SOLICITED_NODE[:12])) + 24 + 58 + 0x8700
    parts: list[bytes] = []
    for address in addresses:
        words = _WORDS_16.unpack(address)
        total = fixed + sum(words) + (0xFF00 | words[6] & 0xFF) + words[7]
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        checksum = (~total & 0xFFFF).to_bytes(2, "big")
        parts += (solicited_node_mac(address), mac, ip_head, address[13:], b"\x87\x00", checksum, bytes(4), address)
    return b"".join(parts)
