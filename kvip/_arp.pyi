from collections.abc import Sequence

ARP_FRAME_LEN: int
"""Bytes of one ARP frame, padded to the shortest that Ethernet carries: 60."""
NA_FRAME_LEN: int
"""Bytes of one unsolicited neighbour advertisement: 86."""
MAX_BATCH: int
"""Most frames of one `send_batch`: 1024, the kernel's UIO_MAXIOV (sendmmsg(2))."""

def build_arp(mac: bytes, vips: bytes) -> bytes:
    """Two broadcast frames for each 4-byte address of `vips`: ARP announcement (RFC 5227 2.3), then reply (RFC 5944 4.6).

    Raises ValueError when `mac` is not 6 bytes or `vips` no multiple of 4.
    """

def build_na(mac: bytes, vips: bytes, *, router: bool) -> bytes:
    """One unsolicited neighbour advertisement to ff02::1 for each 16-byte address of `vips` (RFC 4861 7.2.6).

    Raises ValueError when `mac` is not 6 bytes or `vips` no multiple of 16.
    """

def build_round(mac: bytes, vips: Sequence[str], *, router: bool = False) -> list[tuple[bytes, int]]:
    """The frames of one announcement round, as (buffer, frame length) per family that occurs, IPv4 first.

    Order within a buffer is that of `vips`: two frames of 60 bytes per IPv4 address, one of 86 per IPv6 address.
    `router` is the Router flag of the advertisements: what the node itself is (RFC 4861 7.2.6). Raises ValueError
    when `mac` is not 6 bytes, or a VIP is no address.
    """

def send_batch(fd: int, frames: bytes | bytearray | memoryview, frame_len: int) -> int:
    """Hand all frames of a contiguous buffer to the bound socket `fd` without blocking; returns how many left.

    ENOBUFS, EAGAIN and EINTR are a short count, 0 if they struck the first frame. Any other error on the first
    frame raises OSError; on a later one it ends the batch and comes back with the next call.
    Raises ValueError when the buffer is not whole frames or holds more than `MAX_BATCH`.
    """
