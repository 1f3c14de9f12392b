"""Moves VIPs from the node that holds most to one that holds few; an option, off by default (PROTOCOL T5).

Input: a state, who is alive and holds how much, the time. Output: which of our VIPs are to go to which node. It must not let go of
anything, nor write: `taking` hands over what is marked here as it does all else, let go of first, named for the other then.
"""

from __future__ import annotations

from kvip.core.election.members import living
from kvip.core.election.state import NEVER, Scene, Slot, State, permitted, refuses, replace, with_slot
from kvip.core.model import Vip

PERIOD_S = 10.0
"""One record at a time: each VIP that moves is silent for a moment."""
SETTLED_S = 30.0
"""A node that comes and goes is given nothing."""
RETURN_S = 600.0
"""What came back is not given away again for so long."""


def plan(state: State, scene: Scene, now: float) -> State:
    """Mark VIPs of one record of ours for another node, where this node holds more than any other. At most once per `PERIOD_S`."""
    given = {vip: at for vip, at in state.given.items() if now < at + RETURN_S}
    state = replace(state, given=given, rebalance_at=now + PERIOD_S)
    if not scene.may_take or now < state.valid_since + SETTLED_S or any(slot.leaving for slot in state.slots.values()):
        return state
    loads = {node: scene.loads.get(node, 0) for node in scene.alive}
    if max(loads, key=lambda node: (loads[node], node), default="") != state.node:
        return state
    for node in sorted(loads, key=lambda node: (loads[node], node)):
        surplus = (loads[state.node] - loads[node]) // 2
        if surplus < 1:
            break
        if not _settled(state, node, now):
            continue
        for slot in state.slots.values():
            moves = sorted(vip for vip in permitted(state, slot) & slot.settled if _suits(state, slot, vip, node))[:surplus]
            if moves:
                state = replace(state, given={**given, **dict.fromkeys(moves, now)})
                return with_slot(state, replace(slot, moving=dict.fromkeys(moves, node), look_at=0.0))
    return state


def due(state: State, now: float) -> bool:
    """Is it time for `plan`?"""
    return state.rebalance and now >= state.rebalance_at


def next_at(state: State) -> float:
    """When it is time for `plan` next."""
    return state.rebalance_at if state.rebalance else NEVER


def _settled(state: State, node: str, now: float) -> bool:
    member = state.members.get(node)
    return member is not None and bool(living(member, now=now, fresh_since=state.fresh_since)) and now >= member.holder_since + SETTLED_S


def _suits(state: State, slot: Slot, vip: Vip, node: str) -> bool:
    """Could the other node hold the VIP, and would no preference be broken by that?

    Only what is known to be bound goes: what a turn binds that still goes on is told when that ends, and would be written off before.
    """
    wanted = slot.wanted.get(vip)
    if (
        wanted is None
        or not (wanted.want.asked and wanted.want.able and wanted.want.held and not wanted.want.unconfirmed)
        or vip in state.given
        or vip in refuses(state, node)
    ):
        return False
    leaning = wanted.want.leaning
    tier = next((nodes for nodes in leaning.tiers if state.node in nodes or node in nodes), frozenset[str]())
    return (leaning.fit is None or node in leaning.fit) and (state.node not in tier or node in tier)
