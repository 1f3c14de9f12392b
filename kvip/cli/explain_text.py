"""`kvip explain` as text: a line per decision, and the cause as the last line.

Input: an explanation. Output: lines. Pure.
"""

from __future__ import annotations

from kvip.cli.table import printable
from kvip.observe.explaining import Explanation

_MARKS = {"yes": "ok", "no": "NO", "wait": ".."}
_COLOURS = {"yes": "32", "no": "31", "wait": "33"}


def explanation_lines(told: Explanation, *, colour: bool = False) -> list[str]:
    """The whole output."""
    view = f"as {told.node} sees it" if told.node else "by the API server's objects alone"
    lines = [printable(f"{told.service}{f' (UID {told.uid})' if told.uid else ''}, {view}, {told.at}")]
    width = max((len(step.question) for step in told.steps), default=0)
    vip = ""
    for step in told.steps:
        if step.vip != vip:
            vip = step.vip
            lines.append(printable(vip) or "(empty)")
        mark = _MARKS[step.verdict]
        shown = f"\x1b[{_COLOURS[step.verdict]}m{mark}\x1b[0m" if colour else mark
        lines.append(f"  {shown}  {step.question.ljust(width)}  {printable(step.answer)}")
    lines += [f"note: {printable(remark)}" for remark in told.remarks]
    lines += [f"next: {printable(told.next)}", f"cause: {printable(told.cause)}"]
    return lines
