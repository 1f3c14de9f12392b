"""What doctor says: a finding. Data only."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as kvip needs it, or that an administrator should know."""

    check: str
    """Its name, stable: for scripts, and for those who look it up."""
    level: Literal["problem", "note"]
    """A problem keeps kvip from working as promised; a note is bounded by kvip itself, or by choice."""
    what: str
    why: str
    mend: str
    """The command that mends it, or that shows more where there is a choice to make."""
