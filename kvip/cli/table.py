"""Lines of cells with their columns aligned, for every command that prints a table.

Input: cells. Output: lines. It must not decide, nor write anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

WIDEST = 64
"""Columns; longer text is cut in all columns but the last. JSON has it whole."""


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Each line as text; an empty cell is "-"."""
    cells = [[printable(cell) or "-" for cell in line] for line in lines]
    short = [[cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 3]}..." for cell in line[:-1]] for line in cells]
    widths = [max(map(len, column)) for column in zip(*short, strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(cut, widths, strict=True)), line[-1]]).rstrip()
        for cut, line in zip(short, cells, strict=True)
    ]


def printable(text: str) -> str:
    """A NIC's name, an annotation or a rule's comment are other people's bytes: nothing of them may steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
