"""The kernel and the clock of a node.

Input: facts. Output: findings. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvip.core.doctor.facts import Facts
from kvip.core.doctor.finding import Finding

MARKS_SINCE = (5, 18)
"""IFA_PROTO (linux/if_addr.h): commit 47f0bd503210 ("net: Add new protocol attribute to IP addresses")."""
MOST_SKEW_S = 60.0


def keeps_marks(release: str) -> bool:
    """Does a kernel of this release keep kvip's mark on an address? One whose release cannot be read is taken to."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is None or (int(found[1]), int(found[2])) >= MARKS_SINCE


def judge(facts: Facts) -> Iterator[Finding]:
    """Every finding about the kernel and the clock."""
    if not keeps_marks(facts.host.release):
        yield Finding(
            check="kernel-no-mark",
            level="problem",
            what=f"Linux {facts.host.release} keeps no mark on addresses; {'.'.join(map(str, MARKS_SINCE))} and later do",
            why="By the mark (IFA_PROTO) kvip tells its addresses from others'. Without it no leftover can be told, and none is removed.",
            mend="apt-get install linux-image-amd64   # or what your distribution calls a kernel of 5.18 or later; then reboot",
        )
    yield from _switch(facts)
    yield from _clock(facts)


def _switch(facts: Facts) -> Iterator[Finding]:
    if facts.host.switch_problem:
        wanted = facts.settings.switch
        yield Finding(
            check="no-nf-tables",
            level="problem" if wanted else "note",
            what=f"the dead-man's switch cannot work here: {facts.host.switch_problem}",
            why="Its rules silence a node whose daemon was killed or frozen. "
            + (
                "kvip refuses to start without them."
                if wanted
                else "It is off by choice: such a node goes on answering beside the next holder."
            ),
            mend="apt-get install nftables && modprobe nf_tables   # or what loads nf_tables on this distribution",
        )


def _clock(facts: Facts) -> Iterator[Finding]:
    skew_s = facts.cluster.skew_s if facts.cluster is not None else None
    far = skew_s is not None and abs(skew_s) > MOST_SKEW_S
    if not far and facts.host.clock_synchronised is not False:
        return
    off = f"the wall clock is {abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} the API server's" if far and skew_s else ""
    yield Finding(
        check="clock-off",
        level="problem" if far else "note",
        what=off or "the wall clock is not synchronised",
        why="kvip counts leases on a clock that does not jump, so no VIP depends on this; certificates, tokens and readers of logs do.",
        mend="timedatectl set-ntp true && timedatectl status",
    )
