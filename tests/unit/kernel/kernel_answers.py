"""Messages as the kernel sends them in answer to address changes."""

import struct

from kvip.core.model import MARK_PROTO, is_ipv6, packed
from kvip.kernel import codec


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def shown(address, sequence, *, kind=codec.RTM_NEWADDR, stamps=(7, 7), flags=0x220, proto=MARK_PROTO, name=b"eth0\0", more=()):
    """inet_fill_ifaddr, inet6_fill_ifaddr: an echo, or the answer to a question."""
    times = attribute(6, struct.pack("=IIII", 0, 60 if address.valid_s is None else address.valid_s, *stamps))
    rest = [attribute(8, struct.pack("=I", flags)), attribute(11, bytes([proto])), *more]
    own = packed(address.ip)
    parts = (
        [attribute(1, own), times, *rest]
        if is_ipv6(address.ip)
        else [attribute(1, own), attribute(2, own), attribute(3, name), *rest, times]
    )
    body = struct.pack("=BBBBI", 10 if is_ipv6(address.ip) else 2, address.prefix_len, flags & 0xFF, 0, address.index) + b"".join(parts)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 4711) + body


def refused(code, sequence, *, text=b""):
    """netlink_ack with NETLINK_CAP_ACK; 0 = an acknowledgement."""
    body = struct.pack("=iIHHII", -code, 16, 20, 5, sequence, 4711) + (attribute(1, text + b"\0") if text else b"")
    return struct.pack("=IHHII", 16 + len(body), codec.NLMSG_ERROR, 0x300 if text else 0x100, sequence, 4711) + body
