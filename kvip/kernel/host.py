"""What this network namespace looks like, read when asked: for commands of an administrator, and for advice.

In: rtnetlink and sysctls. Out: a `Host`, or one answer. It changes and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kvip.core.model import Link
from kvip.core.sweeping import Host
from kvip.kernel.batches import AddressSocket
from kvip.kernel.links import default_route_link, read_links
from kvip.kernel.transport import LoopIPRoute

_SYSCTLS = Path("/proc/sys/net/ipv4/conf")
_READ = ("arp_ignore", "arp_announce", "rp_filter")
_SYSCTLS6 = Path("/proc/sys/net/ipv6/conf")


async def read_host(addresses: AddressSocket) -> Host:
    """The addresses, NICs and default route of this network namespace. Raises `NetlinkError`; each dump has a deadline."""
    async with LoopIPRoute() as ipr:
        links = await read_links(ipr)
        default_nic = await default_route_link(ipr)
    return Host(
        addresses=tuple(addresses.dump()),
        links={link.index: link for link in links},
        default_nic=default_nic or "",
        promoting=frozenset(link.index for link in links if _promotes(link)),
    )


def answers_for_others(nic: str) -> bool:
    """Would the kernel answer ARP on this NIC for an address of another one? Not with arp_ignore >= 1 (ip-sysctl); unread = it would."""
    return not _any_set(nic, "arp_ignore")


def forwards_ipv6(nic: str) -> bool:
    """Is this node an IPv6 router on this NIC? Unread = no.

    The kernel's own advertisements go by the NIC's value alone (net/ipv6/ndisc.c, ndisc_send_na).
    """
    try:
        return (_SYSCTLS6 / nic / "forwarding").read_text(encoding="ascii").strip() != "0"
    except (OSError, ValueError):
        return False


def sysctls(nics: Iterable[str]) -> dict[str, dict[str, int]]:
    """The values that decide how ARP is answered and what is let in, of these NICs and of "all"; what cannot be read is left out."""
    return {nic: found for nic in ("all", *nics) if (found := {name: value for name in _READ if (value := _value(nic, name)) is not None})}


def _value(nic: str, sysctl: str) -> int | None:
    try:
        return int((_SYSCTLS / nic / sysctl).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _promotes(link: Link) -> bool:
    """Does a secondary outlive its primary here? Unread = no."""
    return _any_set(link.name, "promote_secondaries")


def _any_set(nic: str, sysctl: str) -> bool:
    """The larger of the two values counts (linux/inetdevice.h, IN_DEV_MAXCONF, IN_DEV_ORCONF)."""
    return any(_value(name, sysctl) not in (None, 0) for name in ("all", nic))
