"""Hears who claims which address on one NIC, and sends probes there.

In: a `Link`. Out: the claims that foreign frames make, a turn's worth at a time, in the event loop; a count of frames lost.
Must not judge a claim, nor know which addresses are VIPs. What is no ARP request or reply, solicitation or advertisement is
dropped by a filter in the kernel. One turn reads at most 128 frames of a socket; while more wait, the next turn comes 5 ms
later: a flood then costs about a tenth of a core, and what does not fit the socket's queue is lost and counted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final

from kvip.core.conflict import Claim
from kvip.core.model import Link, Vip, packed
from kvip.errors import AnnounceError
from kvip.kernel.batches import set_receive_buffer
from kvip.kernel.claims import read_claim
from kvip.kernel.filters import AT_LEAST, BYTE, DROP, EQUAL, GREATER, HALF, Check, attach
from kvip.kernel.packet import send_batch
from kvip.kernel.probe import solicited_node_mac

log = logging.getLogger(__name__)

FRAMES_PER_TURN: Final = 128
PAUSE_S: Final = 0.005

_ETH_P_ARP: Final = 0x0806
_ETH_P_IPV6: Final = 0x86DD
_FRAME_BYTES: Final = 512
_QUEUE_BYTES: Final = 1 << 20
"""The kernel charges about 768 bytes for a small frame, and doubles what is asked (socket(7)): some 2,700 frames."""
_SOL_PACKET: Final = 263
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _STATISTICS = 1, 2, 6
_MR_MULTICAST, _MR_ALLMULTI = 0, 2
_GROUPS_LIMIT: Final = 64
"""NICs filter a few dozen multicast addresses in hardware; beyond that, all of them are let in at once."""

# SKF_AD_OFF + SKF_AD_PKTTYPE (linux/filter.h); PACKET_HOST, _BROADCAST and _MULTICAST are 0 to 2. The rest is not for this
# host: of another VLAN, seen in promiscuous mode, looped back, or sent by it (linux/if_packet.h).
_NOT_FOR_US: Final = (BYTE, 0xFFFFF004, GREATER, 2, False)
_ARP_CHECKS: Final = (
    _NOT_FOR_US,
    (HALF, 14, EQUAL, 1, True),
    (HALF, 16, EQUAL, 0x0800, True),
    (HALF, 18, EQUAL, 0x0604, True),
    (HALF, 20, AT_LEAST, 1, True),
    (HALF, 20, GREATER, 2, False),
)
_ND_CHECKS: Final = (
    _NOT_FOR_US,
    (BYTE, 20, EQUAL, 58, True),
    (BYTE, 21, EQUAL, 255, True),
    (BYTE, 54, AT_LEAST, 135, True),
    (BYTE, 54, GREATER, 136, False),
)


class ClaimListener:
    """Two packet sockets on one Ethernet NIC: ARP, and IPv6 neighbour discovery. Opened at once, heard after `start`.

    Bound to one protocol each, not to ETH_P_ALL: such a socket sees no frame that this host sends, and costs nothing on the
    path of other packets that leave (net/core/dev.c, dev_queue_xmit_nit).
    """

    def __init__(self, link: Link) -> None:
        """Open and bind. Raises AnnounceError when the NIC is gone, is not Ethernet, or CAP_NET_RAW is missing."""
        if link.arp_type != 1 or len(link.mac) != 6:
            raise AnnounceError(link.name, f"address conflicts are looked for on Ethernet only, this is hardware type {link.arp_type}")
        self.link = link
        self.failed = False
        """True once a socket broke; the listener then hears nothing more."""
        self._arp = _open(link, _ETH_P_ARP, _ARP_CHECKS)
        try:
            self._nd = _open(link, _ETH_P_IPV6, _ND_CHECKS)
        except BaseException:
            self._arp.close()
            raise
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    def start(self, on_claims: Callable[[list[Claim]], None]) -> None:
        """Hear from now on, in the running loop. `on_claims` gets the claims of one turn and must not wait."""
        self._loop = asyncio.get_running_loop()
        self._on_claims = on_claims
        for sock in (self._arp, self._nd):
            self._loop.add_reader(sock.fileno(), self._read, sock)

    def send(self, frames: bytes | memoryview, frame_len: int) -> int:
        """Send equal frames of one family, at most 1,024; returns how many left. Raises OSError as `PacketSocket.send`."""
        # A frame that is sent has its socket's protocol for tc and nf_tables, whatever its Ethernet type (packet_snd).
        sock = self._nd if frames[12:14] == b"\x86\xdd" else self._arp
        return send_batch(sock.fileno(), frames, frame_len)

    def join(self, vips: Iterable[Vip]) -> Callable[[], None]:
        """Let in what is sent to the solicited-node groups of these IPv6 VIPs, until the returned function is called.

        The kernel does so itself for addresses that are bound. Answers to solicitations come to all nodes and need no group.
        """
        groups = {solicited_node_mac(packed(vip)) for vip in vips if ":" in vip}
        if len(groups) > _GROUPS_LIMIT:
            wanted = [struct.pack("iHH8s", self.link.index, _MR_ALLMULTI, 0, b"")]
        else:
            wanted = [struct.pack("iHH8s", self.link.index, _MR_MULTICAST, 6, group) for group in groups]
        for membership in wanted:
            self._nd.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)

        def leave() -> None:
            if self._nd.fileno() >= 0:
                for membership in wanted:
                    try:
                        self._nd.setsockopt(_SOL_PACKET, _DROP_MEMBERSHIP, membership)
                    except OSError as error:
                        # The kernel drops memberships of a NIC that goes away (packet_notifier).
                        log.debug("multicast group not left", extra={"nic": self.link.name, "reason": str(error)})

        return leave

    def take_lost(self) -> int:
        """Frames that did not fit the queue since the last call (packet(7): PACKET_STATISTICS is reset by reading)."""
        if self._nd.fileno() < 0:
            return 0
        return sum(struct.unpack("II", sock.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1] for sock in (self._arp, self._nd))

    def close(self) -> None:
        """Close, once or again; blocks 0.1-16 ms per socket (RCU)."""
        for sock in (self._arp, self._nd):
            self._stop_reading(sock)
            sock.close()

    def _stop_reading(self, sock: socket.socket) -> None:
        if self._loop is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
        pause = self._pauses.pop(sock, None)
        if pause is not None:
            pause.cancel()

    def _read(self, sock: socket.socket) -> None:
        claims: list[Claim] = []
        full = True
        for _ in range(FRAMES_PER_TURN):
            try:
                frame = sock.recv(_FRAME_BYTES)
            except BlockingIOError:
                full = False
                break
            except OSError as error:
                full = False
                self._note(sock, error)
                break
            claim = read_claim(frame)
            if claim is not None:
                claims.append(claim)
        if full:
            self._pause(sock)
        if claims:
            self._on_claims(claims)

    def _note(self, sock: socket.socket, error: OSError) -> None:
        # ENETDOWN is told once when the NIC goes down or away; the kernel hooks the socket up again when it comes back up
        # (packet_notifier).
        if error.errno == errno.ENETDOWN:
            assert self._loop is not None
            # libuv ends a poll of a descriptor that once had an error (uv__poll_io: POLLERR), and uvloop never calls its reader again.
            self._loop.remove_reader(sock.fileno())
            self._loop.add_reader(sock.fileno(), self._read, sock)
        else:
            self.failed = True
            self._stop_reading(sock)
            log.warning("cannot hear claims of addresses; opening the socket anew", extra={"nic": self.link.name, "reason": str(error)})

    def _pause(self, sock: socket.socket) -> None:
        assert self._loop is not None
        self._loop.remove_reader(sock.fileno())
        self._pauses[sock] = self._loop.call_later(PAUSE_S, self._resume, sock)

    def _resume(self, sock: socket.socket) -> None:
        del self._pauses[sock]
        if self._loop is not None and sock.fileno() >= 0:
            self._loop.add_reader(sock.fileno(), self._read, sock)


def _open(link: Link, protocol: int, checks: tuple[Check, ...]) -> socket.socket:
    try:
        # Protocol 0 receives nothing until it is bound, so that no frame passes before the filter is there.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    except PermissionError as problem:
        raise AnnounceError(link.name, "packet sockets need CAP_NET_RAW; grant it to this process") from problem
    except OSError as problem:
        raise AnnounceError(link.name, f"no packet socket: {os.strerror(problem.errno or 0)}") from problem
    try:
        attach(sock, checks, matched=_FRAME_BYTES, others=DROP)
        set_receive_buffer(sock, _QUEUE_BYTES)
        name = socket.if_indextoname(link.index)
        sock.bind((name, protocol))
        if socket.if_nametoindex(sock.getsockname()[0]) != link.index:
            raise AnnounceError(link.name, "it was renamed meanwhile")
    except OSError as problem:
        sock.close()
        raise AnnounceError(link.name, f"cannot listen there: {os.strerror(problem.errno or 0)}") from problem
    except BaseException:
        sock.close()
        raise
    return sock
