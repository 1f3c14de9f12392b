"""The twin of `kvip._arp` in plain Python, for machines without a compiler: same names, same bytes, same errors.

In: a MAC, addresses, a file descriptor. Out: bytes, and how many frames left.
Must not differ from `_arp.pyx` in anything but speed, and must not hold policy (no pacing, retry or permit).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

ARP_FRAME_LEN = 60
NA_FRAME_LEN = 86
MAX_BATCH = 1024

_SHORT_COUNT = frozenset({errno.ENOBUFS, errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})
_ARP_HEAD = bytes.fromhex("0806 0001 0800 06 04")
_ALL_NODES = bytes.fromhex("ff02 0000 0000 0000 0000 0000 0000 0001")
_WORDS_16 = struct.Struct("!8H")


def build_arp(mac: bytes, vips: bytes) -> bytes:
    """Two broadcast frames for each 4-byte address of `vips`: ARP announcement (RFC 5227 2.3), then reply (RFC 5944 4.6).

    Raises ValueError when `mac` is not 6 bytes or `vips` no multiple of 4.
    """
    _check_sizes(mac, vips, 4)
    head = b"\xff" * 6 + mac + _ARP_HEAD
    request = head + b"\x00\x01" + mac
    reply = head + b"\x00\x02" + mac
    nobody, padding = bytes(6), bytes(ARP_FRAME_LEN - 42)
    parts: list[bytes] = []
    for start in range(0, len(vips), 4):
        vip = vips[start : start + 4]
        parts += (request, vip, nobody, vip, padding, reply, vip, mac, vip, padding)
    return b"".join(parts)


def build_na(mac: bytes, vips: bytes, *, router: bool) -> bytes:
    """One unsolicited neighbour advertisement to ff02::1 for each 16-byte address of `vips` (RFC 4861 7.2.6).

    Raises ValueError when `mac` is not 6 bytes or `vips` no multiple of 16.
    """
    _check_sizes(mac, vips, 16)
    # ff02::1 maps to 33:33:00:00:00:01 (RFC 2464 7); payload length 32, next header 58, hop limit 255 (RFC 4861 7.1.2).
    head = bytes.fromhex("3333 0000 0001") + mac + bytes.fromhex("86dd 6000 0000 0020 3a ff")
    # RFC 4861 4.4: Router 0x80, Solicited 0x40, Override 0x20.
    flags = struct.pack("!I", 0xA0000000 if router else 0x20000000)
    option = b"\x02\x01" + mac
    # RFC 8200 8.1: pseudo-header (addresses, length, next header) and message; the VIP is in both, so counts twice.
    fixed = sum(struct.unpack("!15H", _ALL_NODES + b"\x88\x00" + flags + option)) + 32 + 58
    parts: list[bytes] = []
    for start in range(0, len(vips), 16):
        vip = vips[start : start + 16]
        total = fixed + 2 * sum(_WORDS_16.unpack(vip))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        parts += (head, vip, _ALL_NODES, b"\x88\x00", (~total & 0xFFFF).to_bytes(2, "big"), flags, vip, option)
    return b"".join(parts)


def build_round(mac: bytes, vips: Sequence[str], *, router: bool = False) -> list[tuple[bytes, int]]:
    """The frames of one announcement round, as (buffer, frame length) per family that occurs, IPv4 first.

    Order within a buffer is that of `vips`: two frames of 60 bytes per IPv4 address, one of 86 per IPv6 address.
    `router` is the Router flag of the advertisements: what the node itself is (RFC 4861 7.2.6). Raises ValueError
    when `mac` is not 6 bytes, or a VIP is no address.
    """
    packed: dict[int, list[bytes]] = {4: [], 16: []}
    for vip in vips:
        try:
            address = socket.inet_pton(socket.AF_INET6 if ":" in vip else socket.AF_INET, vip)
        except (OSError, ValueError):
            raise ValueError(f"{vip!r} is not an IP address") from None
        packed[len(address)].append(address)
    groups: list[tuple[bytes, int]] = []
    if packed[4]:
        groups.append((build_arp(mac, b"".join(packed[4])), ARP_FRAME_LEN))
    if packed[16]:
        groups.append((build_na(mac, b"".join(packed[16]), router=router), NA_FRAME_LEN))
    return groups


def send_batch(fd: int, frames: bytes | bytearray | memoryview, frame_len: int) -> int:
    """Hand all frames of a contiguous buffer to the bound socket `fd` without blocking; returns how many left.

    ENOBUFS, EAGAIN and EINTR are a short count, 0 if they struck the first frame. Any other error on the first
    frame raises OSError; on a later one it ends the batch and comes back with the next call.
    Raises ValueError when the buffer is not whole frames or holds more than `MAX_BATCH`.
    """
    if frame_len < 1:
        raise ValueError(f"frame_len is {frame_len}, must be at least 1")
    view = memoryview(frames)
    if not view.c_contiguous:
        raise BufferError("frames is not a contiguous buffer")
    view = view.cast("B")
    count, rest = divmod(len(view), frame_len)
    if rest:
        raise ValueError(f"frames is {len(view)} bytes, must be a multiple of frame_len {frame_len}")
    if count > MAX_BATCH:
        raise ValueError(f"frames holds {count} frames, must be at most {MAX_BATCH}")
    if count == 0:
        return 0
    if fd < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    # Only a handle for send(2) with flags: detached below, so the caller's descriptor is never closed.
    handle = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, fileno=fd)
    sent = 0
    try:
        for start in range(0, len(view), frame_len):
            handle.send(view[start : start + frame_len], socket.MSG_DONTWAIT)
            sent += 1
    except OSError as error:
        if sent == 0 and error.errno not in _SHORT_COUNT:
            raise
    finally:
        handle.detach()
    return sent


def _check_sizes(mac: bytes, vips: bytes, address_len: int) -> None:
    if len(mac) != 6:
        raise ValueError(f"mac is {len(mac)} bytes, must be 6")
    if len(vips) % address_len:
        raise ValueError(f"vips is {len(vips)} bytes, must be a multiple of {address_len}")
