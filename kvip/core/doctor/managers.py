"""Network managers that remove addresses which they did not add.

Input: facts. Output: findings. Pure. kvip puts a VIP back within a second, so these are notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from kvip.core.doctor import nics
from kvip.core.doctor.facts import Facts, Keeping
from kvip.core.doctor.finding import Finding
from kvip.core.model import Link

NETWORKD, NETWORK_MANAGER = "systemd-network", "NetworkManager"
"""Names of their processes (comm holds 15 bytes)."""
_KEEPS = frozenset({"static", "yes", "true", "on", "1"})
"""Values of KeepConfiguration= (systemd.network) with which static addresses stay at a start and a reconfiguration."""


def judge(facts: Facts) -> Iterator[Finding]:
    """Every finding about the managers of the announcing NICs."""
    running = facts.host.programs
    for link in nics.announcing(facts):
        keeping = facts.host.networkd.get(link.name) if running is None or NETWORKD in running else None
        if keeping is not None and keeping.keep.lower() not in _KEEPS:
            yield _networkd(link, keeping)
        if link.name in facts.host.network_manager and (running is None or NETWORK_MANAGER in running):
            yield _network_manager(link, facts)


def _networkd(link: Link, keeping: Keeping) -> Finding:
    dropin = f"/etc/systemd/network/{PurePosixPath(keeping.file).name}.d"
    return Finding(
        check="networkd-drops",
        level="note",
        what=f"systemd-networkd manages {link.name} by {keeping.file}, with KeepConfiguration={keeping.keep or 'no'}",
        why="At a start or a reconfiguration it removes addresses that it did not add, VIPs too; kvip puts them back, after a gap.",
        mend=f"mkdir -p {dropin} && printf '[Network]\\nKeepConfiguration=static\\n' > {dropin}/kvip.conf && networkctl reload",
    )


def _network_manager(link: Link, facts: Facts) -> Finding:
    own = [address for address in facts.host.net.addresses if address.index == link.index and not address.marked]
    mend = (
        f"nmcli -f GENERAL,IP4,IP6 device show {link.name}   # no `device reapply` or `connection up` while this node holds VIPs"
        if own
        else f"nmcli device set {link.name} managed no   # it has no address of its own"
    )
    return Finding(
        check="network-manager-drops",
        level="note",
        what=f"NetworkManager manages {link.name}",
        why="It leaves addresses of others alone until someone applies or activates the profile of the NIC again; then they go, VIPs among "
        "them; kvip puts them back, after a gap.",
        mend=mend,
    )
