"""A suite as one plot: a bar per figure, its ratio to the reference on a logarithmic scale, and a mark where the goal lies.

In: a suite. Out: SVG text, the same for the same suite, without script or outside resource. Must not measure.
"""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from benchmarks.figures import Figure, Suite, short

_LABELS, _BARS, _NUMBERS, _LINE, _TOP = 430, 420, 120, 22, 64
_COLOURS = {True: "#2b7a3d", False: "#b3261e", None: "#5b6b7f"}


def svg(suite: Suite) -> str:
    """The plot of a suite; a goal on the value itself is drawn where the ratio would be."""
    width, height = _LABELS + _BARS + _NUMBERS, _TOP + _LINE * len(suite.figures) + 12
    marks = [goal for figure in suite.figures if (goal := _goal(figure)) is not None]
    logs = [math.log10(value) for value in (1.0, *marks, *(figure.ratio for figure in suite.figures)) if value > 0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    high = max(high, low + 1)

    def across(value: float) -> float:
        return _LABELS + _BARS * (math.log10(value) - low) / (high - low) if value > 0 else _LABELS

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-size="15">{escape(suite.name)}: ratio to the reference</text>',
        '<text x="8" y="38" fill="#5b6b7f">green: goal met, red: missed, grey: no goal; black mark: goal</text>',
    ]
    for power in range(low, high + 1):
        at = across(10.0**power)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{height - 8}" stroke="#d5dae1"/>')
        parts.append(f'<text x="{at:.1f}" y="{_TOP - 12}" text-anchor="middle" fill="#5b6b7f">{10.0**power:g}</text>')
    one = across(1.0)
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{_TOP - 8}" y2="{height - 8}" stroke="#8792a2"/>')
    for number, figure in enumerate(suite.figures):
        parts += _bar(figure, across(figure.ratio), one, _TOP + _LINE * number)
        goal = _goal(figure)
        if goal is not None:
            at, y = across(goal), _TOP + _LINE * number
            parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{y + 16}" stroke="#000000" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _goal(figure: Figure) -> float | None:
    if figure.goal is None or figure.goal <= 0:
        return None
    if figure.goal_of == "ratio":
        return figure.goal
    return figure.goal / figure.reference_value if figure.reference_value > 0 else None


def _bar(figure: Figure, at: float, one: float, y: int) -> list[str]:
    start, length = min(at, one), max(abs(at - one), 1.0)
    return [
        f'<text x="{_LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(figure.name)}</text>',
        f'<rect x="{start:.1f}" y="{y + 2}" width="{length:.1f}" height="12" fill="{_COLOURS[figure.met]}"/>',
        f'<text x="{_LABELS + _BARS + 8}" y="{y + 12}">{short(figure.ratio)} x</text>',
    ]
