"""kube-vip's firewall rules on this host: finds what it leaves behind, and removes it when asked to.

In: what nft and iptables' variants list (`foreign_listings` reads it). Out: `Leftover`s. It removes nothing that it was not handed.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from kvip.kernel.firewall import ToolError, find_tool, run_tool
from kvip.kernel.foreign_listings import CHAIN, Leftover, jump_target, nft_script, parse_ruleset, parse_save, restore_script

_LEGACY_TABLES: Final = {"ip": Path("/proc/net/ip_tables_names"), "ip6": Path("/proc/net/ip6_tables_names")}
"""The tables that iptables-legacy has made so far; asking the tool itself would load kernel modules."""


def find_all(named: Collection[str] = ()) -> tuple[list[Leftover], list[ToolError]]:
    """Everything of kube-vip's that the tools here can see, and the tools that failed; nft fails when it is not installed.

    Tables of anybody's are found too when their word (`nft:FAMILY:NAME`) is in `named`.
    """
    found: list[Leftover] = []
    problems: list[ToolError] = []
    try:
        found += parse_ruleset(run_tool("nft", ["-j", "list", "ruleset"]), named=named)
    except ToolError as error:
        problems.append(error)
    by_nft = tuple(found)
    for tool, family in _variants():
        try:
            listed = parse_save(run_tool(f"{tool}-save"), tool=tool, family=family)
        except ToolError as error:
            problems.append(error)
            continue
        found += [item for item in listed if tool.endswith("-legacy") or not _seen_by_nft(item, by_nft)]
    return found, problems


def remove(leftovers: Sequence[Leftover]) -> list[ToolError]:
    """Remove these, rules before chains before tables, all of one tool in one transaction; the tools that failed.

    What is gone is for a new `find_all` to tell.
    """
    problems: list[ToolError] = []
    for tool in dict.fromkeys(item.tool for item in leftovers):
        mine = [item for item in leftovers if item.tool == tool]
        try:
            if tool == "nft":
                run_tool("nft", ["-f", "-"], script=nft_script(mine))
            else:
                run_tool(f"{tool}-restore", ["--noflush", "--wait", "5"], script=restore_script(mine))
        except ToolError as error:
            problems.append(error)
    return problems


def _seen_by_nft(item: Leftover, by_nft: Sequence[Leftover]) -> bool:
    """Is it among what nft listed? Tools for nf_tables see the same: whole tables, the chain with jumps to it, nft's own comments."""
    about_chain = CHAIN in (item.chain, jump_target(shlex.split(item.text)))
    return any(
        (other.family, other.table) == (item.family, item.table)
        and (
            other.kind == "table"
            or (about_chain and other.kind == "chain")
            or (other.kind == "rule" and other.comment != "" and (other.chain, other.comment) == (item.chain, item.comment))
        )
        for other in by_nft
    )


def _variants() -> list[tuple[str, str]]:
    """The variants of iptables to ask, with the family that each writes."""
    found: list[tuple[str, str]] = []
    for name, family in (("iptables", "ip"), ("ip6tables", "ip6")):
        nft, legacy = (find_tool(f"{name}-{variant}-save") is not None for variant in ("nft", "legacy"))
        if nft:
            found.append((f"{name}-nft", family))
        if legacy and _has_legacy_tables(family):
            found.append((f"{name}-legacy", family))
        if not (nft or legacy) and find_tool(f"{name}-save"):
            found.append((name, family))
    return found


def _has_legacy_tables(family: str) -> bool:
    try:
        return bool(_LEGACY_TABLES[family].read_text(encoding="ascii").strip())
    except OSError:
        return False
