"""Whole numbers that somebody else wrote as text."""

from __future__ import annotations

MOST_DIGITS = 40
"""Enough for 128 bits. int() refuses more than 4,300 digits with a ValueError (CVE-2020-10735), and takes what isdecimal() and isdigit()
take for digits beside 0-9, or not."""


def natural(text: str) -> int | None:
    """The number that the text is, in digits 0-9 alone; None = it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else None
