"""A mark on what kvip wrote into a Lease, by which every reader tells it from an edit, a restored backup or a blanking.

Input: who writes, on which version, and what. Output: the mark, and whether content and mark belong together. It is no
signature: it guards against accidents, not against forgery. It must not decide what follows from a broken one.
"""

from __future__ import annotations

import hashlib

from kvip.core.election.lease import is_older
from kvip.core.natural import natural

NONE = "-"


def seal(*, writer: str, sequence: int, base: str, uid: str, content: str) -> str:
    """The mark for `content`, written by `writer` upon version `base` of the object `uid` (both "" when it is created)."""
    plain = f"{writer} {sequence} {base or NONE} {uid or NONE}"
    return f"{plain} {_digest(plain, content)}"


def unbroken(mark: str, *, uid: str, content: str) -> bool:
    """Does the mark belong to this content of this object?"""
    plain, _, digest = mark.rpartition(" ")
    parts = plain.split(" ")
    return len(parts) == 4 and parts[3] in (NONE, uid) and digest == _digest(plain, content)


def sequence_of(mark: str) -> int:
    """The writer's own count, 0 when it cannot be read."""
    parts = mark.split(" ")
    return (natural(parts[1]) or 0) if len(parts) == 5 else 0


def follows(mark: str, *, known_version: str) -> bool:
    """Can this content have come after the version known? A compare-and-swap builds on what was known, or on something later.

    The same mark under another version does not follow: somebody touched another part of the object, or put an old content back.
    """
    parts = mark.split(" ")
    return len(parts) == 5 and parts[2] != NONE and not is_older(parts[2], known_version)


def created(mark: str) -> bool:
    """Was the object made by this write?"""
    parts = mark.split(" ")
    return len(parts) == 5 and parts[2] == NONE


def _digest(plain: str, content: str) -> str:
    return hashlib.sha256(f"{plain}\n{content}".encode()).hexdigest()[:16]
