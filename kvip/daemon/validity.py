"""What every election needs around its validity: the timer that ends it, whether this node can act on it, and whether the API answers.

Input: the clock, the loops' heartbeats, outcomes of requests. Output: a call at the end of validity (PROTOCOL R2), a verdict (R5), a call
when the API server is heard again. It must not renew or fence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kvip.clock import Clock, SuspendWatch
from kvip.daemon.supervision import Heartbeats
from kvip.errors import ApiError

log = logging.getLogger(__name__)


class ValidityTimer:
    """Calls back at an instant of the clock, whatever any request does meanwhile."""

    def __init__(self, clock: Clock, on_ended: Callable[[], None]) -> None:
        self._clock = clock
        self._on_ended = on_ended
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, until: float | None) -> None:
        """Call back then and not earlier; None = not at all."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._until = until
        if until is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, until - self._clock.now()), self._look)

    def _look(self) -> None:
        # The loop's time stands still while the machine sleeps; the clock's does not.
        if self._until is not None and self._clock.now() < self._until:
            self.set(self._until)
        else:
            self._on_ended()


class Progress:
    """Can this node act on a permit? Not while the reconcile loop stands still (PROTOCOL R5)."""

    def __init__(self, heartbeats: Heartbeats) -> None:
        self._heartbeats = heartbeats
        self._was_stuck = False

    def stuck(self, *, within_s: float) -> bool:
        """Did the reconcile loop make no progress within this time?"""
        stuck = self._heartbeats.age_s("reconcile") > within_s
        if stuck and not self._was_stuck:
            log.error("not renewing: the reconcile loop made no progress within the renew deadline")
        self._was_stuck = stuck
        return stuck


class Reach:
    """Does the API server answer about the Leases? Said once each time that changes."""

    def __init__(self, on_heard: Callable[[bool], None]) -> None:
        """`on_heard`: the API server answers again (True), or a Lease that was refused is granted (False)."""
        self._on_heard = on_heard
        self._answers = True
        self._refused: set[str] = set()

    def outcome(self, error: Exception | None, *, lease: str) -> None:
        """What came of a request about this Lease."""
        self.answered(error.status if isinstance(error, ApiError) else 0, lease=lease, ok=error is None, reason=str(error))

    def answered(self, status: int, *, lease: str, ok: bool, reason: str = "") -> None:
        """The same, as a status (0 = none came). An answer may be a refusal, which concerns that Lease alone."""
        self.note(ok or status != 0, lease=lease, reason=reason)
        if ok and lease in self._refused:
            self._refused.remove(lease)
            self._on_heard(False)
        elif not ok and status and lease not in self._refused:
            self._refused.add(lease)
            log.warning("a request about a Lease is refused; trying again", extra={"lease": lease, "reason": reason})

    def note(self, answers: bool, *, lease: str, reason: str = "") -> None:
        """One request came back, or did not."""
        if answers == self._answers:
            return
        self._answers = answers
        if answers:
            log.info("the API server answers about the Leases again", extra={"lease": lease})
            self._on_heard(True)
        else:
            log.warning("a Lease cannot be read or written; trying again", extra={"lease": lease, "reason": reason})


class Footing:
    """What every Lease of one daemon stands on: that the machine was not suspended, that the daemon can act, that the API answers."""

    def __init__(self, clock: Clock, heartbeats: Heartbeats, *, on_heard: Callable[[bool], None] = lambda _: None) -> None:
        """`on_heard`: see `Reach`."""
        self.clock = clock
        self.heartbeats = heartbeats
        self.progress = Progress(heartbeats)
        self.reach = Reach(on_heard)
        self._suspends = SuspendWatch(clock)
        self._slept = 0

    def slept(self) -> int:
        """How often the machine was suspended since the start."""
        self._slept += self._suspends.happened()
        return self._slept
