"""Packet sockets: how announcement frames get onto one NIC.

In: a `Link`, VIPs, frames. Out: frames on the wire, and how many left.
Must not decide when to send or whether a permit holds (the announcer's), nor receive anything.
Whoever opens a socket keeps it: closing an AF_PACKET socket waits for an RCU grace period, 0.1-16 ms measured.
"""

from __future__ import annotations

import errno
import os
import socket

from kvip import _arp_py
from kvip.core.model import Link
from kvip.errors import AnnounceError
from kvip.kernel.extensions import extension

IMPLEMENTATION: str = "python"
"""Which code builds and sends frames: "cython" (kvip._arp) or "python" (its twin)."""

build_arp, build_na, build_round, send_batch = _arp_py.build_arp, _arp_py.build_na, _arp_py.build_round, _arp_py.send_batch
_compiled = extension("kvip._arp", "build_arp", "build_na", "build_round", "send_batch")
if _compiled is not None:
    build_arp, build_na = _compiled.build_arp, _compiled.build_na
    build_round, send_batch = _compiled.build_round, _compiled.send_batch
    IMPLEMENTATION = "cython"

_ARPHRD_ETHER = 1
_SO_SNDBUFFORCE = 32
"""asm-generic/socket.h: SO_SNDBUF past net.core.wmem_max, for CAP_NET_ADMIN."""
_SEND_BUFFER_BYTES = 1 << 20
"""A 60-byte frame is charged about 768 bytes while it is queued (skb->truesize): room for more than a batch of 1,024."""


class PacketSocket:
    """A sending-only packet socket on one Ethernet NIC.

    Never PACKET_QDISC_BYPASS: it goes around the qdisc, whose ENOBUFS is the push-back of a full queue, and around
    dev_queue_xmit, the one path on which the netdev egress hook (where the dead-man's switch drops) is not a special
    case (net/packet/af_packet.c, packet_xmit).
    """

    def __init__(self, link: Link) -> None:
        """Open and bind. Raises AnnounceError when the NIC is gone, is not Ethernet, or CAP_NET_RAW is missing."""
        if link.arp_type != _ARPHRD_ETHER or len(link.mac) != 6:
            raise AnnounceError(
                link.name,
                f"it is not Ethernet (hardware type {link.arp_type}, hardware address of {len(link.mac)} bytes); choose an Ethernet NIC",
            )
        self.link = link
        try:
            # Protocol 0 receives nothing (packet(7)): no queue to drain.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except PermissionError as problem:
            raise AnnounceError(link.name, "packet sockets need CAP_NET_RAW; grant it to this process") from problem
        except OSError as problem:
            raise AnnounceError(link.name, f"no packet socket: {os.strerror(problem.errno or 0)}") from problem
        try:
            _grow_send_buffer(sock)
            _bind(sock, link)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        self._fd = sock.fileno()

    def send(self, frames: bytes | bytearray | memoryview, frame_len: int) -> int:
        """Send a buffer of equal frames in one call; returns how many left, fewer when a queue is full (ENOBUFS, EAGAIN).

        A dropping egress hook also answers ENOBUFS. Never blocks. Raises OSError when the NIC is down (ENETDOWN)
        or gone (ENXIO), ValueError for a buffer that is not whole frames or holds more than 1,024.
        """
        return send_batch(self._fd, frames, frame_len)

    def fileno(self) -> int:
        """The bound, non-blocking descriptor; -1 once closed."""
        return self._fd

    def close(self) -> None:
        """Close, once or again; blocks 0.1-16 ms. Sending afterwards raises OSError (EBADF)."""
        self._fd = -1
        self._sock.close()


def _grow_send_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)


def _bind(sock: socket.socket, link: Link) -> None:
    # socket.bind() takes a name, but a NIC is its index: names move, so the outcome is checked.
    try:
        sock.bind((socket.if_indextoname(link.index), 0))
        bound = socket.if_nametoindex(sock.getsockname()[0])
    except OSError as problem:
        if problem.errno in (errno.ENXIO, errno.ENODEV):
            raise AnnounceError(link.name, f"there is no NIC with index {link.index} any more") from problem
        raise AnnounceError(link.name, f"binding failed: {os.strerror(problem.errno or 0)}") from problem
    if bound != link.index:
        raise AnnounceError(link.name, f"its name now belongs to NIC {bound}, expected {link.index}; it was renamed meanwhile")
