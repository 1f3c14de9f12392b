"""Is this daemon alive, and is it ready: two pure verdicts with their reasons.

Input: ages of loops and states of caches. Output: (good, reasons). It must not look anything up itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

WEAK = "fencing: weak (no dead-man's switch: a killed or frozen daemon's node goes on answering)"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`good` False comes with at least one reason; a good one may have something to say as well."""

    good: bool
    reasons: tuple[str, ...] = ()


def alive(late: Mapping[str, float]) -> Verdict:
    """`late`: loops that should have turned, with the seconds since they last did."""
    reasons = tuple(f"{name} loop has not turned for {age:.0f} s" for name, age in sorted(late.items()))
    return Verdict(good=not reasons, reasons=reasons)


def ready(*, started: bool, synced: Mapping[str, bool], lease_observed: bool, blocked: str = "", weak: bool = False) -> Verdict:
    """The daemon knows what is asked and takes part in the election (as holder or as candidate).

    `blocked`: why nothing is taken at present. It is said, but the daemon is ready: a rolling restart that changes the mode
    would otherwise wait for ever for its first node. `weak`: without the dead-man's switch.
    """
    reasons = [] if started else ["still starting"]
    reasons += [f"{kind} not synced with the API server" for kind, done in sorted(synced.items()) if not done]
    if not lease_observed:
        reasons.append("the lease has not been read lately: the API server does not answer")
    return Verdict(good=not reasons, reasons=(*reasons, *([blocked] if blocked else []), *([WEAK] if weak else [])))
