"""What a command found and did, as an aligned table or as JSON.

Input: rows. Output: text. It must not decide, nor write anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kvip.cli.table import aligned

HEAD = ("KIND", "WHAT", "WHERE", "WHOSE", "ACTION", "RESULT")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing, what was to happen to it, and what came of that."""

    kind: str
    what: str
    where: str = ""
    whose: str = ""
    action: str
    """"remove", "adopt" or "leave"."""
    result: str
    ok: bool = True
    """False: it should have gone and did not, or it is not known whether it is there."""


def as_table(rows: Sequence[Row]) -> str:
    """One line per row under a head, columns aligned; empty without rows."""
    if not rows:
        return ""
    return "\n".join(aligned([HEAD, *((row.kind, row.what, row.where, row.whose, row.action, row.result) for row in rows)]))


def as_json(rows: Sequence[Row], *, dry_run: bool) -> str:
    """The rows, and how many of them are not as they should be."""
    document = {"dry_run": dry_run, "problems": sum(not row.ok for row in rows), "rows": rows}
    return msgspec.json.format(msgspec.json.encode(document)).decode()
