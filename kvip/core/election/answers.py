"""What came of a request: what it teaches, and when to try again where it failed.

Input: a state, the request, its answer, the time. Output: the state after it. It must not decide what to ask next.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import msgspec

from kvip.core.election import records
from kvip.core.election.heartbeat import ENDED
from kvip.core.election.learn import answers_ahead, confirm, learn, learn_all, version_of
from kvip.core.election.state import Op, State, look_again, own_name, remembering, replace
from kvip.core.objects import Lease

FIRST_PAUSE_S = 0.1
REFUSED_PAUSE_S = 0.02


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request. `status` 0 with `ok` False = no answer: it may have been carried out, now or later."""

    ok: bool
    lease: Lease | None = None
    """What was read or written; None after a read = there is none."""
    leases: Sequence[Lease] = ()
    version: str = ""
    """resourceVersion of a list."""
    status: int = 0
    problem: str = ""
    """What the API server said, or why there is no answer."""
    terminating: bool = False
    """403: the namespace is being deleted."""
    retry_after_s: float = 0.0

    @property
    def overtaken(self) -> bool:
        """The Lease is not as it was when the request was decided on: 404, 409."""
        return self.status in (404, 409)


def answered(state: State, op: Op, answer: Answer, *, now: float) -> State:
    """Take in what came of a request. An answer to a former incarnation teaches, but renews nothing."""
    flights = {name: flight for name, flight in state.flights.items() if flight is not op}
    before = state
    if answer.ok and op.kind == "write" and answer.lease is not None:
        state = learn(state, op.name, answer.lease, now=now)
    state = replace(state, flights=flights)
    current = op.incarnation == state.incarnation
    if not answer.ok:
        return _look_on(_failed(state, op, answer, now=now, current=current), op)
    if op.name in state.pauses:
        state = replace(state, pauses={name: pause for name, pause in state.pauses.items() if name != op.name})
    if op.kind == "list":
        after = learn_all(state, answer.leases, version=answer.version, known=op.known, sent_at=op.sent_at, now=now)
        return answers_ahead(state, after, [lease.metadata.name for lease in answer.leases], now=now)
    if op.kind == "read":
        after = learn(state, op.name, answer.lease, now=now, asked=op.known, sent_at=op.sent_at)
        if op.name in after.ahead:
            absent = not version_of(after, op.name)
            after = replace(
                after, ahead={name: now if name == op.name else at for name, at in after.ahead.items() if name != op.name or not absent}
            )
        return _look_on(answers_ahead(state, after, (op.name,), now=now), op)
    state = answers_ahead(before, state, (op.name,), now=now)
    if op.purpose == "renew" and current:
        state = confirm(state, sequence=op.sequence, sent_at=op.sent_at, now=now)
    if op.purpose == "kill":
        state = replace(state, dead=remembering(state, state.dead, _victim(op)))
    return _look_on(state, op)


def _look_on(state: State, op: Op) -> State:
    """Decide again about what may have waited for this request."""
    if op.purpose == "renew" or op.kind == "list" or op.name == state.shared_name:
        return state
    number = records.number_in(op.name)
    return look_again(state) if number is None else look_again(state, {n: state.slots[n] for n in (number,) if n in state.slots})


def _failed(state: State, op: Op, answer: Answer, *, now: float, current: bool) -> State:
    """A write that was refused may have been overtaken by one of our own whose answer was lost: a read tells."""
    failures = state.pauses.get(op.name, (0, 0.0))[0] + 1
    refused = op.kind == "write" and answer.overtaken
    pause_s = REFUSED_PAUSE_S if refused else min(state.timers.retry_period_s, FIRST_PAUSE_S * 2 ** min(failures - 1, 10))
    pause_s = max(pause_s, min(answer.retry_after_s, state.timers.retry_period_s))
    spread = 0.8 + 0.4 * (crc32(f"{state.incarnation} {op.name} {failures}".encode()) / 2**32)
    state = replace(state, pauses={**state.pauses, op.name: (failures, now + pause_s * spread)})
    if refused and op.name != records.CLUSTER:
        state = replace(state, verify=state.verify | {op.name})
    mine = op.name == own_name(state) and current and state.renewed_until is not None
    if mine and answer.terminating:
        return replace(state, lost="the namespace is being deleted")
    if mine and op.kind == "read" and op.name in state.verify and failures > 1:
        # After a refused write this is the second failure; a mere doubt may ask twice.
        return replace(state, lost="heartbeat changed by another")
    return state


def _victim(op: Op) -> str:
    return op.annotations[ENDED].split(" ")[0]
