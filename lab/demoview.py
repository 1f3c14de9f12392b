"""The picture below the demo's narration: the nodes, who answers for the VIP, and what the client sees.

In: a `Picture`. Out: something that rich draws. Pure: it must not look at anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rich.console import RenderableType


class NodePicture(msgspec.Struct, frozen=True, kw_only=True):
    """One node."""

    name: str
    ip: str
    mac: str
    daemon: str
    """"pid 26301", "not started", "dead (exit -9)"."""
    runs: bool
    bound: tuple[str, ...]
    """Its VIPs, each with what the kernel says of it."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What can be observed at one moment."""

    nodes: tuple[NodePicture, ...] = ()
    vip: str = ""
    """The one that the steps are about; "" = none yet."""
    asked: bool = False
    """Does the client ask for it over and over?"""
    answered_by: str = ""
    """MAC of the last answer; "" = none."""
    silent_s: float = 0.0
    """Since the last answer."""
    neighbour: str = ""
    """MAC that the client's neighbour table has for the VIP; "" = none."""
    trouble: str = ""
    """Why the rest is not known."""


SILENT_S = 0.1
"""Without an answer for so long, nobody answers: the client asks every few milliseconds."""


def named(picture: Picture, mac: str) -> str:
    """A MAC with the name of its node."""
    name = next((node.name for node in picture.nodes if node.mac == mac), "nobody of this LAN")
    return f"{name} ({mac})"


def answers(picture: Picture) -> str:
    """Who answers for the VIP, as text."""
    if not picture.vip:
        return "no VIP yet"
    if not picture.asked:
        return "nobody asks now"
    if not picture.answered_by:
        return f"nobody, for {picture.silent_s:.1f} s"
    if picture.silent_s < SILENT_S:
        return named(picture, picture.answered_by)
    return f"nobody, for {picture.silent_s:.1f} s; {named(picture, picture.answered_by)} did before"


def draw(picture: Picture, *, step: str, elapsed_s: float) -> RenderableType:
    """The picture with the step that is under way."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    nodes = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("node", "address", "MAC", "daemon", "VIPs in its kernel"):
        nodes.add_column(head)
    for node in picture.nodes:
        bound = Text(", ".join(node.bound) or "none", style="bold green" if node.bound and node.runs else "yellow" if node.bound else "dim")
        nodes.add_row(node.name, node.ip, node.mac, Text(node.daemon, style="" if node.runs else "red"), bound)
    facts = Table.grid(padding=(0, 2))
    silent = not picture.answered_by or picture.silent_s >= SILENT_S
    facts.add_row("VIP", picture.vip or "none yet")
    facts.add_row("who answers", Text(answers(picture), style="yellow" if silent else "bold green"))
    sees = named(picture, picture.neighbour) if picture.neighbour else "nobody"
    facts.add_row("client's neighbour table", Text(sees if picture.vip else "nothing", style="" if picture.neighbour else "dim"))
    if picture.trouble:
        facts.add_row("not seen", Text(picture.trouble, style="red"))
    return Panel(
        Group(nodes, Text(), facts),
        title=Text(step or "kvip demo"),
        subtitle=f"{elapsed_s:.1f} s",
        title_align="left",
        subtitle_align="right",
    )
