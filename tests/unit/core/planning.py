"""One VIP's facts for tests of the planner: two NICs, an address of each family, and what the kernel shows of it."""

from kvip.core.diff import plan
from kvip.core.facts import Bound
from kvip.core.model import MARK_PROTO, Address, IfIndex, Link, Vip, host_prefix

NOW = 1000.0
LIFETIME_S = 60
LINKS = tuple(Link(index=IfIndex(n), name=f"eth{n}", mac=b"\2" * 6, up=True, carrier=True) for n in (2, 3))
VIPS = (Vip("192.0.2.7"), Vip("2001:db8::7"))


def bound(vip, *, index=2, marked=True, prefix=None, flags=0, left_s=60.0):
    prefix_len = host_prefix(vip) if prefix is None else prefix
    place = Address(ip=vip, prefix_len=prefix_len, index=IfIndex(index), proto=MARK_PROTO if marked else 0, flags=flags)
    return Bound(address=place, expires_at=None if left_s is None else NOW + left_s)


def act(wanted, there):
    return plan(wanted, there, now=NOW, lifetime_s=LIFETIME_S)
