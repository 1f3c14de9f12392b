"""What this node says of itself in its heartbeat: the NIC that announces, and whether it can announce at all.

Input: the kernel's facts. Output: `About`. It must not decide who holds.
"""

from __future__ import annotations

import ipaddress

from kvip.core.election.heartbeat import About, Nic
from kvip.core.facts import Facts


def describe(facts: Facts, nic: str, *, eligible: bool) -> About:
    """The NIC with its MAC and the subnets of the node's own addresses on it; without it, none."""
    link = facts.link(nic)
    if link is None:
        return About(eligible=eligible)
    own = (address for address in facts.unmarked() if address.index == link.index and not address.ip.startswith("fe80:"))
    subnets = {str(ipaddress.ip_network(f"{address.ip}/{address.prefix_len}", strict=False)) for address in own}
    return About(nics=(Nic(name=link.name, mac=link.mac.hex(":"), subnets=tuple(sorted(subnets))),), eligible=eligible)
