"""Tells of firewall rules that kube-vip left on this node: once, soon after the start.

Input: what nft and iptables list. Output: a log line, a metric and an Event on the Node. It must not remove anything: kube-vip may
still run here; `kvip sweep --also` removes what an administrator names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from kvip import metrics
from kvip.kernel.firewall import ToolError
from kvip.kernel.foreign_listings import Leftover

log = logging.getLogger(__name__)

DELAY_S = 3.0
"""The tools take a core for some 100 ms on a node with many rules: the first VIPs come first."""
NAMED_LIMIT = 5


class Leftovers:
    """`run` looks once, in a thread: the tools have deadlines of their own."""

    def __init__(self, find: Callable[[], tuple[list[Leftover], list[ToolError]]], tell: Callable[[str], None]) -> None:
        """`find` asks the tools; `tell` gets the message of an Event on the Node."""
        self._find = find
        self._tell = tell

    async def run(self) -> None:
        """Look, tell, and then wait to be cancelled."""
        await asyncio.sleep(DELAY_S)
        judge(*await asyncio.to_thread(self._find), self._tell)
        await asyncio.Event().wait()


def judge(found: Sequence[Leftover], problems: Sequence[ToolError], tell: Callable[[str], None]) -> None:
    """Log, count and tell what was found."""
    metrics.foreign_rules.set(len(found))
    for problem in problems:
        log.info("kube-vip's firewall rules could not be looked for with one of the tools", extra={"reason": str(problem)})
    if not found:
        return
    words = sorted({item.word for item in found})
    log.warning(
        "firewall rules of kube-vip are on this node; they are left alone",
        extra={"count": len(found), "rules": [_shown(item) for item in found[:NAMED_LIMIT]], "words": words},
    )
    tell(message(found, words))


def message(found: Sequence[Leftover], words: Sequence[str]) -> str:
    """The Event: how many, which first, and the way to remove them."""
    shown = "; ".join(_shown(item) for item in found[:NAMED_LIMIT])
    more = f" and {len(found) - NAMED_LIMIT} more" if len(found) > NAMED_LIMIT else ""
    return (
        f"{len(found)} firewall rules, chains or tables of kube-vip are on this node ({shown}{more}). kvip leaves them alone; "
        f"when no kube-vip runs here any more: kvip sweep --also {','.join(words)}"
    )


def _shown(item: Leftover) -> str:
    return f"{item.where}: {item.text}" if item.text else f"{item.kind} {item.where}"
