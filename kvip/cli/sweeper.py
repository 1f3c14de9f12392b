"""Carries out one sweep of this host: kvip's own, what was named besides, or an adoption.

Input: a `Request` and what the kernel says. Output: a row for each thing, with what the kernel confirmed. The order is
addresses, then kvip's tables, then the others: while an address is left, the rules that silence it stay.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from kvip.cli.rows import Row
from kvip.core.doctor.kernel import keeps_marks
from kvip.core.model import Address, Vip
from kvip.core.sweeping import KUBE_VIP_IPTABLES, OWN_TABLES, Also, Host, judge_adoption, judge_named, leftovers, taken_along
from kvip.daemon.binding import slices
from kvip.errors import NetlinkError, SwitchError
from kvip.kernel import foreign_rules
from kvip.kernel.batches import AddressOp, AddressSocket, OpResult, vip_address
from kvip.kernel.foreign_listings import Leftover
from kvip.kernel.nft_tables import Tables

ROUNDS = 3
"""Marked addresses that appear while others are removed are removed too, this many times."""
_NO_NF_TABLES = frozenset({errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL})


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a sweep."""

    dry_run: bool = False
    also: Also = Also()
    adopt: frozenset[Vip] | None = None
    """VIPs to take over; None = no adoption. An adoption removes nothing of kvip's."""
    lifetime_s: int = 60
    """Of adopted addresses, unless a daemon refreshes them."""
    owners: Mapping[Vip, tuple[str, ...]] = {}
    """Services by VIP, where known, for the reader."""


class Sweeper:
    """One sweep. `rows` grows as things are done."""

    def __init__(
        self, request: Request, host: Host, addresses: AddressSocket, *, on_progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """`on_progress` hears how many addresses were dealt with, and of how many."""
        self._request = request
        self._host = host
        self._addresses = addresses
        self._on_progress = on_progress
        self._handled = self._targets = 0
        self._named: dict[tuple[str, int, int], Address] = {}
        self.rows: list[Row] = []

    def run(self) -> list[Row]:
        """Do it, or with `dry_run` only say it. Raises NetlinkError when the kernel gives no answer about addresses."""
        self._warn_of_old_kernel()
        self._judge_named()
        if self._request.adopt is None:
            self._remove([address for address in self._host.addresses if address.marked])
            self._remove(self._named.values())
            left = self._remove_latecomers()
            for table in OWN_TABLES:
                self._remove_own_table(table, left)
        else:
            self._remove(self._named.values())
            self._adopt(self._request.adopt)
        if self._request.dry_run:
            self._list_candidates()
        self._remove_foreign()
        return self.rows

    # -- addresses -----------------------------------------------------------------------------------------------------

    def _judge_named(self) -> None:
        for named in self._request.also.addresses:
            verdict = judge_named(named, self._host)
            if verdict.address is not None and not verdict.refusal:
                self._named.setdefault(_place(verdict.address), verdict.address)
            elif verdict.address is not None or verdict.refusal:
                nic = self._host.nic(verdict.address) if verdict.address is not None else named.nic
                self._add("address", named.text, nic, "unmarked", "leave", f"refused: {verdict.refusal}", ok=False)
            elif not any(address.marked and address.ip == named.ip for address in self._host.addresses):
                self._add("address", named.text, named.nic, "unmarked", "leave", "not on this host")

    def _remove(self, addresses: Iterable[Address]) -> None:
        targets: list[Address] = []
        wanted = list(addresses)
        for address in wanted:
            along = [other for other in taken_along(address, self._host) if other not in wanted]
            if along:
                names = ", ".join(self._host.word(other) for other in along)
                self._address(address, "leave", f"not removed: the kernel would delete {names} with it", ok=False)
            elif self._request.dry_run:
                self._address(address, "remove", "would be removed")
            else:
                targets.append(address)
        for result in self._apply([AddressOp(kind="delete", address=address) for address in targets]):
            problem = "" if result.gone else _refused(result)
            self._address(result.operation.address, "remove", f"not removed: {problem}" if problem else "removed", ok=not problem)

    def _apply(self, operations: Sequence[AddressOp]) -> Iterator[OpResult]:
        """The results, a slice of kernel work at a time."""
        self._targets += len(operations)
        for part in slices(operations):
            self._on_progress(self._handled, self._targets)
            yield from self._addresses.apply(part)
            self._handled += len(part)
            self._on_progress(self._handled, self._targets)

    def _remove_latecomers(self) -> list[Address]:
        """Marked addresses that someone added meanwhile go as well; returns those that are left in the end."""
        if self._request.dry_run:
            return []
        for _ in range(ROUNDS):
            left = self._marked_now()
            new = [address for address in left if not self._failed(address)]
            if not new:
                return left
            self._remove(new)
        left = self._marked_now()
        for address in left:
            if not self._failed(address):
                self._address(address, "remove", "not removed: someone adds it again at once", ok=False)
        return left

    def _marked_now(self) -> list[Address]:
        return [address for address in self._addresses.dump() if address.marked]

    def _failed(self, address: Address) -> bool:
        text = f"{address.ip}/{address.prefix_len}"
        return any(not row.ok and (row.what, row.where) == (text, self._host.nic(address)) for row in self.rows)

    def _adopt(self, vips: frozenset[Vip]) -> None:
        targets: list[Address] = []
        for verdict in judge_adoption(self._host, vips):
            address = verdict.address
            if address is None or _place(address) in self._named:
                continue
            if verdict.refusal:
                self._address(address, "leave", f"not adopted: {verdict.refusal}", ok=False)
            elif self._request.dry_run:
                self._address(address, "adopt", "would be adopted")
            else:
                targets.append(address)
        valid_s = self._request.lifetime_s
        operations = [
            AddressOp(kind="replace", address=vip_address(address.ip, address.index, valid_s=valid_s, label=address.label))
            for address in targets
        ]
        for address, result in zip(targets, self._apply(operations), strict=True):
            problem = _not_adopted(result)
            text = f"not adopted: {problem}" if problem else f"adopted: marked, valid for {valid_s} s unless kvip refreshes it"
            self._address(address, "adopt", text, ok=not problem)

    def _list_candidates(self) -> None:
        """What another daemon may have left, with the word that takes it. Listed only."""
        adopted = self._request.adopt or frozenset()
        for address in leftovers(self._host):
            if _place(address) not in self._named and address.ip not in adopted:
                self._address(address, "leave", f"not kvip's; if it was left behind: --also {self._host.word(address)}")

    def _warn_of_old_kernel(self) -> None:
        release = os.uname().release
        if keeps_marks(release):
            return
        self._add(
            "kernel",
            f"Linux {release}",
            "",
            "kvip",
            "leave",
            "keeps no mark on addresses (5.18 does), so kvip's cannot be told from others': name them one by one with --also",
            ok=False,
        )

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _remove_own_table(self, table: str, left: Sequence[Address]) -> None:
        try:
            tables = Tables(table, OWN_TABLES[table], what=f"table {table}")
        except SwitchError as error:
            self._no_tables(table, error)
            return
        try:
            families = tables.present()
            if self._request.dry_run:
                self._tables(table, families, "would be removed")
            elif left:
                self._tables(table, families, f"kept: its rules guard {len(left)} address(es) that could not be removed", ok=False)
            else:
                tables.remove()
                self._tables(table, [family for family in families if family not in tables.present()], "removed")
                self._tables(table, tables.present(), "not removed: it was put back at once", ok=False)
        except SwitchError as error:
            self._no_tables(table, error)
        finally:
            tables.close()

    def _no_tables(self, table: str, error: SwitchError) -> None:
        """A kernel without nf_tables has no table of ours; any other failure leaves it unknown."""
        cause = error.__cause__
        if not (isinstance(cause, NetlinkError) and cause.errno in _NO_NF_TABLES):
            result = f"cannot be seen or removed: {error}; try `nft list tables`, or restart this host"
            self._add("table", table, ", ".join(OWN_TABLES[table]), "kvip", "remove", result, ok=False)

    def _tables(self, table: str, families: Iterable[str], result: str, *, ok: bool = True) -> None:
        for family in families:
            self._add("table", f"{family} {table}", "nf_tables", "kvip", "remove" if "kept" not in result else "leave", result, ok=ok)

    def _remove_foreign(self) -> None:
        """kube-vip's rules: those named are removed, the others listed by a dry run."""
        words = self._request.also.words
        if not words and not self._request.dry_run:
            return
        found, problems = foreign_rules.find_all(words)
        named = [item for item in found if item.word in words]
        after: list[Leftover] = named
        if named and not self._request.dry_run:
            problems += foreign_rules.remove(named)
            after, unseen = foreign_rules.find_all(words)
            problems += [problem for problem in unseen if str(problem) not in {str(known) for known in problems}]
        for item in found:
            if item.word not in words:
                if self._request.dry_run:
                    self._foreign(item, "leave", f"not kvip's; to remove it: --also {item.word}")
            elif self._request.dry_run:
                self._foreign(item, "remove", "would be removed")
            else:
                self._foreign(item, "remove", "not removed" if item in after else "removed", ok=item not in after)
        for word in sorted(words - {item.word for item in named}):
            kind = "rule" if word == KUBE_VIP_IPTABLES else "table"
            self._add(kind, word, "", "kube-vip" if kind == "rule" else "unknown", "leave", "not on this host", ok=not problems)
        for problem in problems:
            advice = "; install it and sweep again" if problem.missing else ""
            result = f"{problem}{advice}: rules of others may be there unseen"
            self._add("tool", problem.tool, "", "-", "leave", result, ok=not words)

    # -- words ---------------------------------------------------------------------------------------------------------

    def _address(self, address: Address, action: str, result: str, *, ok: bool = True) -> None:
        services = ", ".join(self._request.owners.get(address.ip, ()))
        whose = "kvip" if address.marked else "unmarked"
        self._add(
            "address",
            f"{address.ip}/{address.prefix_len}",
            self._host.nic(address),
            f"{whose} ({services})" if services else whose,
            action,
            result,
            ok=ok,
        )

    def _foreign(self, item: Leftover, action: str, result: str, *, ok: bool = True) -> None:
        what = item.text if item.kind == "rule" else item.chain or f"{item.family} {item.table}"
        self._add(item.kind, what, item.where, item.whose, action, result, ok=ok)

    def _add(self, kind: str, what: str, where: str, whose: str, action: str, result: str, *, ok: bool = True) -> None:
        self.rows.append(Row(kind=kind, what=what, where=where, whose=whose, action=action, result=result, ok=ok))


def _place(address: Address) -> tuple[str, int, int]:
    return address.ip, address.prefix_len, address.index


def _refused(result: OpResult) -> str:
    return result.ext_ack or (os.strerror(result.errno) if result.errno else "the kernel still shows it")


def _not_adopted(result: OpResult) -> str:
    if result.errno or result.seen is None:
        return _refused(result)
    return "" if result.seen.marked else f"the kernel ({os.uname().release}) took no mark; Linux 5.18 or later does"
