"""kube-vip's firewall rules in what nft(8) and iptables-save(8) print, and the commands that remove them.

In: listings. Out: `Leftover`s, each with the word by which an administrator names it; scripts for nft and iptables-restore. It takes a
rule for kube-vip's by name or comment only. No process, no state.

What kube-vip writes (pkg/vip/egress.go, pkg/vip/address.go, pkg/nftables): tables `kube_vip_[INSTANCE_]v4` and `_v6` with
chains `kube_vip_snat_UID`; the chain KUBE-VIP-EGRESS in mangle; rules whose comment begins with `a3ViZS12aXAK=kube-vip` or
ends in `kube-vip load balancer IP`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal

import msgspec

from kvip.core.sweeping import KUBE_VIP_IPTABLES, OWN_TABLES, TABLE_WORD
from kvip.errors import UNREADABLE
from kvip.kernel.firewall import ToolError

CHAIN: Final = "KUBE-VIP-EGRESS"
_EGRESS_COMMENT: Final = "a3ViZS12aXAK=kube-vip"
_SERVICE_COMMENT: Final = " kube-vip load balancer IP"
_MARK_COMMENT: Final = "kube-vip load balancer IP set mark for masquerade"
_TABLE: Final = re.compile(r"kube_vip_(\S+_)?v[46]")
_SNAT_CHAIN: Final = "kube_vip_snat_"
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][\w./-]*")
"""What nft's scanner takes for an identifier (scanner.l); a table of another name could be made over netlink, but not named here."""

Kind = Literal["table", "chain", "rule"]


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of kube-vip's. `tool` is "nft", or the variant of iptables that listed it."""

    kind: Kind
    tool: str
    family: str
    """"ip" or "ip6"."""
    table: str
    chain: str = ""
    text: str = ""
    """A rule as its tool lists it: iptables' own line; for nft its comment or the chain it jumps to."""
    handle: int = 0
    """nft: the rule's number in its table, never given out again."""
    comment: str = ""
    whose: str = "kube-vip"

    @property
    def word(self) -> str:
        """What an administrator calls it."""
        return f"{TABLE_WORD}{self.family}:{self.table}" if self.kind == "table" else KUBE_VIP_IPTABLES

    @property
    def where(self) -> str:
        """Family, table and chain."""
        return " ".join(filter(None, (self.tool, self.family, self.table, self.chain)))


class _Chain(msgspec.Struct):
    family: str
    table: str
    name: str


class _TableName(msgspec.Struct):
    family: str
    name: str


class _Jump(msgspec.Struct):
    target: str


class _Statement(msgspec.Struct):
    jump: _Jump | None = None
    goto: _Jump | None = None


class _Rule(msgspec.Struct):
    family: str
    table: str
    chain: str
    handle: int
    comment: str = ""
    expr: list[msgspec.Raw] = []


class _Entry(msgspec.Struct):
    table: _TableName | None = None
    chain: _Chain | None = None
    rule: _Rule | None = None


class _Ruleset(msgspec.Struct):
    nftables: list[_Entry]


_ruleset = msgspec.json.Decoder(_Ruleset)
_statement = msgspec.json.Decoder(_Statement)


def parse_ruleset(text: str, *, named: Collection[str] = ()) -> list[Leftover]:
    """kube-vip's things in what `nft -j list ruleset` prints. Raises `ToolError` for what cannot be read.

    nft does not show the comments of rules that iptables-nft wrote: those come from `parse_save`.
    """
    try:
        entries = _ruleset.decode(text).nftables
    except UNREADABLE as error:
        raise ToolError("nft", f"its rule set cannot be read: {error}") from error
    chains = [entry.chain for entry in entries if entry.chain is not None]
    with_snat = {(chain.family, chain.table) for chain in chains if chain.name.startswith(_SNAT_CHAIN)}
    found: list[Leftover] = []
    for table in (entry.table for entry in entries if entry.table is not None):
        theirs = _TABLE.fullmatch(table.name) or (table.family, table.name) in with_snat
        if not _PLAIN_NAME.fullmatch(table.name) or table.family in OWN_TABLES.get(table.name, ()):
            continue
        item = Leftover(kind="table", tool="nft", family=table.family, table=table.name, whose="kube-vip" if theirs else "unknown")
        if theirs or item.word in named:
            found.append(item)
    whole = {(item.family, item.table) for item in found}
    for entry in entries:
        if entry.rule is not None and (entry.rule.family, entry.rule.table) not in whole:
            found += _nft_rule(entry.rule)
    found += [
        Leftover(kind="chain", tool="nft", family=chain.family, table=chain.table, chain=chain.name)
        for chain in chains
        if chain.name == CHAIN and (chain.family, chain.table) not in whole
    ]
    return found


def parse_save(text: str, *, tool: str, family: str) -> list[Leftover]:
    """kube-vip's rules and chains in what iptables-save prints."""
    rules: list[Leftover] = []
    chains: list[Leftover] = []
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(f":{CHAIN} "):
            chains.append(Leftover(kind="chain", tool=tool, family=family, table=table, chain=CHAIN))
        elif line.startswith("-A "):
            try:
                words = shlex.split(line)
            except ValueError:
                continue
            if len(words) < 2:
                continue
            chain, comment = words[1], _after(words, "--comment")
            if _is_kube_vip(comment) or CHAIN in (chain, jump_target(words)):
                rules.append(Leftover(kind="rule", tool=tool, family=family, table=table, chain=chain, text=line[3:], comment=comment))
    return rules + chains


def nft_script(leftovers: Iterable[Leftover]) -> str:
    """The commands that remove these, in one transaction."""
    rules, flushes, chains, tables = [], [], [], []
    for item in leftovers:
        if item.kind == "table":
            tables.append(f"delete table {item.family} {item.table}\n")
        elif item.kind == "rule" and item.chain != CHAIN:
            rules.append(f"delete rule {item.family} {item.table} {item.chain} handle {item.handle}\n")
        elif item.kind == "chain":
            flushes.append(f"flush chain {item.family} {item.table} {item.chain}\n")
            chains.append(f"delete chain {item.family} {item.table} {item.chain}\n")
    return "".join(rules + flushes + chains + tables)


def restore_script(leftovers: Iterable[Leftover]) -> str:
    """What iptables-restore --noflush reads to remove these: one transaction per table."""
    items = list(leftovers)
    parts: list[str] = []
    for table in dict.fromkeys(item.table for item in items):
        mine = [item for item in items if item.table == table]
        lines = [f"-D {item.text}" for item in mine if item.kind == "rule" and item.chain != CHAIN]
        if any(item.kind == "chain" for item in mine):
            lines += [f"-F {CHAIN}", f"-X {CHAIN}"]
        parts += [f"*{table}", *lines, "COMMIT"]
    return "\n".join(parts) + "\n"


def _nft_rule(rule: _Rule) -> list[Leftover]:
    target = ""
    for raw in rule.expr:
        try:
            statement = _statement.decode(raw)
        except UNREADABLE:
            continue
        jump = statement.jump or statement.goto
        target = jump.target if jump is not None else target
    if not (_is_kube_vip(rule.comment) or CHAIN in (rule.chain, target)):
        return []
    text = rule.comment or (f"jump {target}" if target else "")
    return [
        Leftover(
            kind="rule",
            tool="nft",
            family=rule.family,
            table=rule.table,
            chain=rule.chain,
            text=text,
            handle=rule.handle,
            comment=rule.comment,
        )
    ]


def _is_kube_vip(comment: str) -> bool:
    return comment.startswith(_EGRESS_COMMENT) or comment.endswith(_SERVICE_COMMENT) or comment == _MARK_COMMENT


def jump_target(words: Sequence[str]) -> str:
    """The chain that a rule of iptables jumps or goes to; "" = none."""
    return _after(words, "-j") or _after(words, "-g")


def _after(words: Sequence[str], flag: str) -> str:
    """The word behind a flag, empty when the flag is not there."""
    return words[words.index(flag) + 1] if flag in words[:-1] else ""
