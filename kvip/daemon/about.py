"""What this node says of itself in its heartbeat: the NICs that announce, and whether it can announce at all.

Input: the kernel's facts. Output: `About`. It must not decide who holds.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from kvip.core.addresses import network_of
from kvip.core.election.heartbeat import About, Nic
from kvip.core.facts import Facts
from kvip.core.model import IfIndex, Vip


def describe(facts: Facts, nics: Collection[str], *, eligible: bool) -> About:
    """Those of these NICs that are there, with their MACs and the subnets of the node's own addresses on them."""
    links = sorted((link for link in facts.links.values() if link.name in nics), key=lambda link: link.name)
    subnets: dict[IfIndex, set[str]] = {link.index: set() for link in links}
    for address in facts.unmarked() if links else ():
        if address.index in subnets and not address.ip.startswith("fe80:"):
            subnets[address.index].add(_subnet(address.ip, address.prefix_len))
    told = (Nic(name=link.name, mac=link.mac.hex(":"), subnets=tuple(sorted(subnets[link.index]))) for link in links)
    return About(nics=tuple(told), eligible=eligible)


@lru_cache(maxsize=256)
def _subnet(ip: Vip, prefix_len: int) -> str:
    return str(network_of(ip, prefix_len))
