"""What is wrong with what a Service asks for, in words for a Warning Event. Text only: it must not decide anything."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

LONGEST_VALUE = 64
MOST_TOLD = 40
"""One Service with thousands of bad values must not crowd out the Events of the others."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why something that a Service asks for is not done; becomes a Warning Event."""

    reason: str
    message: str


def shown(value: str) -> str:
    """A value for a message: quoted, of bounded length."""
    return repr(value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 3]}... ({len(value)} characters)")


def about(reason: str, source: str, value: str, fault: str) -> Problem:
    """A problem with one value: where it stands, what it is, what is wrong with it and what follows."""
    return Problem(reason=reason, message=f"{source}: {shown(value)} {fault}")


def bounded(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The first of them, each once, and how many more there are."""
    distinct = tuple(dict.fromkeys(problems))
    if len(distinct) <= MOST_TOLD:
        return distinct
    more = Problem(reason="ManyProblems", message=f"{len(distinct) - MOST_TOLD} more problems with this Service are not listed")
    return (*distinct[:MOST_TOLD], more)
