"""What hangs on a Lease: what its loop asks before it takes or keeps it, and whom it tells. Types only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stakes:
    """One Lease's. Calls never wait, but for `in_the_way`."""

    on_won: Callable[[], None]
    on_fence: Callable[[str], None]
    """It must withdraw everything that hangs on the Lease before it returns; it gets the reason."""
    on_renewed: Callable[[float], str] = lambda _: ""
    """Valid until then; the answer, unless "", is why to fence."""
    able: Callable[[], bool] = lambda: True
    """Can this node announce anything of it?"""
    dead: Callable[[str], bool] = lambda _: False
    """Was this holder a former life of this very node that is over?"""
    earlier_holder: Callable[[], bool] = lambda: False
    """Does any Service show that somebody held before, or is that not known yet?"""
    proven: Callable[[], bool] = lambda: True
    """Was every VIP of the Lease found free and bound here? Then whoever held before kvip need not be reckoned with any more."""
    in_the_way: Callable[[float], Awaitable[str]] | None = None
    """Asked before the Lease is taken, and again when it is ours and nothing was done by it yet, so that two modes which take at the
    same time see each other; it gets a deadline (seconds), and answers "" for nothing."""
    polls: bool = True
    """False: the watch alone tells of changes, and what it missed is found out when the Lease is to be taken."""
    mark: str = ""
    """See `Election.mark`."""
