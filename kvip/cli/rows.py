"""What a command found and did, as an aligned table or as JSON.

Input: rows. Output: text. It must not decide, nor write anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

HEAD = ("KIND", "WHAT", "WHERE", "WHOSE", "ACTION", "RESULT")
WIDEST = 64
"""Columns; longer text is cut in all columns but the last. JSON has it whole."""


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
    cells = [HEAD, *((row.kind, row.what, row.where, row.whose, row.action, row.result) for row in rows)]
    lines = [[_printable(cell) for cell in line] for line in cells]
    short = [[cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 3]}..." for cell in line[:-1]] for line in lines]
    widths = [max(len(line[column]) for line in short) for column in range(len(HEAD) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(cut, widths, strict=True)), line[-1]]).rstrip()
        for cut, line in zip(short, lines, strict=True)
    )


def as_json(rows: Sequence[Row], *, dry_run: bool) -> str:
    """The rows, and how many of them are not as they should be."""
    document = {"dry_run": dry_run, "problems": sum(not row.ok for row in rows), "rows": rows}
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _printable(text: str) -> str:
    """A NIC's name and a rule's comment are other people's bytes: nothing of them may steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text) or "-"
