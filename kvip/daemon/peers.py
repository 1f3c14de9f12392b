"""The other nodes of mode `claims` as this one sees them: who lives, which MACs are theirs, and who speaks for which Service.

Input: the election's state. Output: answers. It must not decide who holds anything.
"""

from __future__ import annotations

import hashlib

from kvip import metrics
from kvip.core.election.members import living
from kvip.core.election.state import State
from kvip.core.model import Uid


class Peers:
    """Brought up to date by `look`."""

    macs: frozenset[bytes] = frozenset()
    """MACs of other nodes' NICs, from their heartbeats; a dead node's too: its frames may still be under way."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._alive: tuple[str, ...] = ()

    def look(self, state: State, *, now: float, valid: bool) -> None:
        """Take in the heartbeats. `valid`: may this node act itself?"""
        others = {node: member for node, member in state.members.items() if node != self._node}
        alive = {node for node, member in others.items() if living(member, now=now, fresh_since=state.fresh_since)}
        self._alive = tuple(sorted(alive | {self._node})) if valid else ()
        macs = {nic.mac for member in others.values() if member.beat is not None for nic in member.beat.about.nics}
        self.macs = frozenset(bytes.fromhex(mac.replace(":", "")) for mac in macs if len(mac) == 17)
        metrics.members_alive.set(len(self._alive))

    def chose_us(self, uid: Uid) -> bool:
        """Is it this node that speaks for a Service? Of the living one does: the first in the order that the UID gives."""
        if not self._alive:
            return False
        return max(self._alive, key=lambda node: hashlib.blake2b(f"{uid} {node}".encode(), digest_size=8).digest()) == self._node
