"""The dead-man's switch: rules of the kernel that silence a VIP unless its lease group was re-armed in time.

In: VIPs with their NICs, lease groups with the end of their validity. Out: what nf_tables then holds, acknowledged by it.
It must not decide who may answer, nor bind or announce anything. Synchronous and short; `install` runs one `nft` child.

A refused transaction changes nothing. What the switch believes to be in the maps is what the kernel acknowledged; should the
kernel disagree, it is read anew once, and then the change is tried again.

Over 300 lines: what is believed to be in the maps has one owner, and every change of them goes by it.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Final

from kvip.clock import Clock
from kvip.core import ruleset
from kvip.core.model import Vip
from kvip.core.ruleset import FAMILIES, OTHERS, SILENT, TABLE, Place, Verdict, alive_set
from kvip.errors import SwitchError
from kvip.kernel import nft
from kvip.kernel.nft_child import load, require_support
from kvip.kernel.nft_tables import Contradicted, Tables

log = logging.getLogger(__name__)

SLACK_S: Final = 0.1
"""The element's timeout ends this much before the validity, so a transaction that took no longer cannot outlive it."""
FIRST_ARM_MS: Final = 100
_ALIVE_KEY: Final = bytes(4)
_ELEMENTS_PER_MESSAGE: Final = 500


class Expired(SwitchError):
    """The group was not alive any more when it was to be re-armed: the kernel has fenced. Not to be tried again."""


class Late(SwitchError):
    """Re-arming took so long that the group might have outlived its validity. It is disarmed."""


class Switch:
    """The rules of one network namespace (that of the thread that makes it and calls `install`). One owner; `close()` it."""

    def __init__(self, *, clock: Clock, groups: Sequence[str] = ("main",), spare: Sequence[str] = ()) -> None:
        """`spare`: groups loaded when the first of them is needed. Raises SwitchError when the kernel gives no nf_tables socket."""
        self._clock = clock
        self._groups = tuple(ruleset.check_group(group) for group in groups)
        self._spare = tuple(spare)
        self._nics: tuple[str, ...] = ()
        self._hooked: tuple[str, ...] = ()
        self._places: dict[Vip, Place] = {}
        self._others: frozenset[Vip] = frozenset()
        self._installed: frozenset[bytes] = frozenset()
        self._own = 0
        """Transactions of ours that were committed; each is one of the kernel's generations."""
        self._intact_at = -1
        """The generation, less our own transactions, as of which all was found intact."""
        self._tampered = False
        self._children: deque[int] = deque(maxlen=4)
        self._tables = Tables()

    @staticmethod
    def require() -> None:
        """Raises SwitchError that names what is missing on this machine for a switch. Changes nothing; runs `nft --check`."""
        require_support()

    # -- the rules -----------------------------------------------------------------------------------------------------

    def install(self, *, nics: Sequence[str], vips: Mapping[Vip, str]) -> None:
        """Replace whatever tables of ours are there, in one transaction: `vips` (VIP -> NIC) silent, nothing alive, no others.

        NICs named by `vips` are added to `nics`. A NIC that does not exist gets its egress hook only from kernels that wait for
        it (6.18 does): `covers` tells. Raises SwitchError; then what was there before is still there.
        """
        wanted = tuple(dict.fromkeys(nic for nic in (*nics, *vips.values()) if nic))
        places = {vip: Place(SILENT, nic) for vip, nic in vips.items()}
        hooked = wanted
        try:
            try:
                self._load(wanted, places, hooked)
            except SwitchError:
                hooked = tuple(nic for nic in wanted if _exists(nic))
                if hooked == wanted:
                    raise
                self._load(wanted, places, hooked)
        except ValueError as error:
            raise SwitchError(str(error)) from error
        self._nics, self._hooked, self._places, self._others = wanted, hooked, places, frozenset()
        self._installed = self._tables.objects()
        self._intact_at, self._tampered = -1, False
        if not self.intact():
            raise SwitchError("the rules are not there as installed: another program changed them at once")

    def _load(self, nics: Sequence[str], places: Mapping[Vip, Place], hooked: Sequence[str]) -> None:
        load(ruleset.document(nics=nics, groups=self._groups, places=places, hooked=hooked), on_started=self._children.append)

    def provide(self, group: str) -> None:
        """See to it that there are rules for this group; what is in the tables goes on as it is. Raises SwitchError."""
        if group in self._groups or group not in self._spare:
            return
        count = max(len(self._groups), self._spare.index(group) + 1)
        more, rest = self._spare[:count], self._spare[count:]
        if self._installed:
            if not self.intact():
                raise SwitchError("the rules are not there as installed, so none can be added")
            load(ruleset.growth(nics=self._nics, groups=more), on_started=self._children.append)
            self._installed, self._intact_at = self._tables.objects(), -1
        self._groups, self._spare = self._groups + more, rest

    def uninstall(self) -> None:
        """Remove all tables of ours. None there is fine. Raises SwitchError."""
        self._tables.remove()
        self._nics, self._hooked, self._places, self._others, self._installed = (), (), {}, frozenset(), frozenset()

    def covers(self, nic: str) -> bool:
        """Is there an egress hook on that NIC, and the NIC itself? False after it was removed. Raises SwitchError."""
        if nic not in self._hooked or not _exists(nic):
            return False
        chain = f"egress_{self._nics.index(nic)}"
        return chain in self._tables.chains("netdev")

    def intact(self) -> bool:
        """Are tables, chains, rules, sets and the VIPs in the maps as installed and acknowledged? Raises SwitchError.

        Once the kernel was found to hold something else, False until the next `install`.

        O(1) when none but this switch's own transactions were made since it was last found intact; else it reads all of it.
        """
        generation = self._tables.generation() - self._own
        if generation == self._intact_at:
            return True
        if self._tampered or not self._installed or self._tables.objects() != self._installed:
            return False
        if self._tables.verdicts() != _expected(self._places, self._nics):
            return False
        self._intact_at = generation
        return True

    def owns(self, port: int) -> bool:
        """Was a change notified with that netlink port made by this switch: its socket, or one of its last `nft` children?"""
        return port == self._tables.port or port in self._children

    def close(self) -> None:
        """Close the socket; idempotent. The rules stay: they are for when this process is gone."""
        self._tables.close()

    # -- the VIPs ------------------------------------------------------------------------------------------------------

    def silence(self, vips: Mapping[Vip, str]) -> None:
        """Into the switch, or moved there: never answering, whatever is armed. One transaction. Raises SwitchError."""
        self._move({vip: Place(SILENT, nic) for vip, nic in vips.items()})

    def admit(self, vips: Mapping[Vip, str], group: str = "main") -> None:
        """Into the group, or moved there: a VIP answers on its NIC while the group is alive. One transaction. Raises SwitchError."""
        if group not in self._groups:
            raise SwitchError(f"no lease group {group!r} in the switch")
        without = sorted({nic for nic in vips.values() if nic not in self._nics})
        if without:
            raise SwitchError(f"the switch has no rules for NIC {', '.join(map(repr, without))}; install it again with them")
        self._move({vip: Place(group, nic) for vip, nic in vips.items()})

    def remove(self, vips: Iterable[Vip]) -> None:
        """Out of the switch; back to the others, where `others` named them. Absent ones are fine. Raises SwitchError."""
        self._move({vip: Place(OTHERS) if vip in self._others else None for vip in vips})

    def others(self, vips: Iterable[Vip]) -> None:
        """The VIPs whose ARP and NS are silenced, but not their packets; replaces the former set. Raises SwitchError.

        A VIP that is silent or in a group stays there; it comes here when removed.
        """
        wanted = frozenset(vips)
        former = {vip for vip, place in self._places.items() if place.group == OTHERS}
        self._move(dict.fromkeys(former - wanted) | {vip: Place(OTHERS) for vip in wanted if vip not in self._places})
        self._others = wanted

    @property
    def admitted(self) -> dict[Vip, str]:
        """VIP -> group of those that answer while it is alive, as last acknowledged by the kernel."""
        return {vip: place.group for vip, place in self._places.items() if place.group not in (SILENT, OTHERS)}

    def contents(self) -> dict[Vip, str]:
        """VIP -> its group, "silent" or "others", read from the kernel. Raises SwitchError."""
        return {vip: place.group for vip, place in self._read().items()}

    def _move(self, targets: Mapping[Vip, Place | None]) -> None:
        try:
            self._try_to_move(targets)
        except Contradicted as error:
            self._places, self._tampered, self._intact_at = self._read(), True, -1
            log.warning("the switch held something else than acknowledged; read anew", extra={"reason": str(error)})
            self._try_to_move(targets)

    def _try_to_move(self, targets: Mapping[Vip, Place | None]) -> None:
        gone: dict[tuple[str, str], list[bytes]] = {}
        new: dict[tuple[str, str], list[bytes]] = {}
        for vip, place in targets.items():
            before = ruleset.verdicts(vip, self._places.get(vip), self._nics)
            after = ruleset.verdicts(vip, place, self._nics)
            for verdict in before:
                if verdict not in after:
                    gone.setdefault((verdict.family, verdict.map), []).append(nft.element(verdict.key))
            for verdict in after:
                if verdict in before:
                    continue
                new.setdefault((verdict.family, verdict.map), []).append(nft.element(verdict.key, chain=verdict.chain))
        kinds: tuple[tuple[nft.ChangeKind, dict[tuple[str, str], list[bytes]]], ...] = (("delete", gone), ("add", new))
        requests = [
            nft.change_elements(kind, family, TABLE, name, elements[start : start + _ELEMENTS_PER_MESSAGE], exclusive=True)
            for kind, changes in kinds
            for (family, name), elements in changes.items()
            for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE)
        ]
        self._commit(requests, "change", f"the place of {len(targets)} VIPs in the switch")
        for vip, place in targets.items():
            if place is None:
                self._places.pop(vip, None)
            else:
                self._places[vip] = place

    def _commit(self, requests: Sequence[nft.Request], operation: str, target: str) -> None:
        """A transaction that changes something, if there is anything in it."""
        self._tables.transact(requests, operation, target)
        self._own += bool(requests)

    # -- arming --------------------------------------------------------------------------------------------------------

    def arm_first(self, group: str, *, until: float) -> None:
        """The first arm of an incarnation: alive for 100 ms, and then as `rearm`, so that a stop in between ends in silence.

        `until` is on the clock's scale. Raises what `rearm` raises.
        """
        left_ms = self._left_ms(until)
        if left_ms > 0:
            first = [_alive("add", family, group, timeout_ms=min(FIRST_ARM_MS, left_ms)) for family in FAMILIES]
            try:
                self._commit(first, "arm", group)
            except Contradicted as error:
                if error.errno != errno.EEXIST:
                    raise
                self.disarm(group)
                self._commit(first, "arm", group)
        self.rearm(group, until=until)

    def rearm(self, group: str, *, until: float) -> None:
        """Alive until then, by delete + add in one transaction over all tables; O(1) for any number of VIPs.

        Raises `Expired` when the group was not alive any more, `Late` when it could have outlived `until` (then it is disarmed),
        SwitchError for anything else (then the kernel's own timeout remains).
        """
        delete = [_alive("delete", family, group) for family in FAMILIES]
        for _ in range(2):
            began = self._clock.now()
            left_ms = self._left_ms(until)
            if left_ms <= 0:
                break
            try:
                add = [_alive("add", family, group, timeout_ms=left_ms) for family in FAMILIES]
                self._commit([*delete, *add], "re-arm", group)
            except Contradicted as error:
                if error.errno == errno.ENOENT and self._tables.complete(alive_set(group)):
                    raise Expired(f"lease group {group}: the kernel has switched it off already") from error
                raise
            if self._clock.now() - began <= SLACK_S:
                return
        self.disarm(group)
        raise Late(f"lease group {group}: its validity may have ended before the kernel took it; disarmed")

    def disarm(self, group: str | None = None) -> None:
        """Not alive any more, one group or all, acknowledged. Not alive before is fine. Raises SwitchError when rules are gone."""
        groups = self._groups if group is None else (group,)
        requests = [nft.flush_elements(family, TABLE, alive_set(each)) for each, family in product(groups, FAMILIES)]
        # Not counted: a flush of nothing makes no generation (net/netfilter/nf_tables_api.c, nf_tables_commit).
        self._intact_at = -1
        try:
            self._tables.transact(requests, "disarm", group or "all lease groups")
        except SwitchError:
            # One table gone must not leave another alive.
            for request in requests:
                try:
                    self._tables.transact([request], "disarm", group or "all lease groups")
                except SwitchError as error:
                    log.debug("part of the switch is gone", extra={"reason": str(error)})
            raise

    def _read(self) -> dict[Vip, Place]:
        places = {vip: ruleset.place_of(chain, self._groups, self._nics) for vip, chain in self._tables.chains_of_vips().items()}
        return {vip: place for vip, place in places.items() if place is not None}

    def _left_ms(self, until: float) -> int:
        return int((until - self._clock.now() - SLACK_S) * 1000)


def _alive(kind: nft.ChangeKind, family: str, group: str, *, timeout_ms: int = 0) -> nft.Request:
    return nft.change_elements(kind, family, TABLE, alive_set(group), [nft.element(_ALIVE_KEY, timeout_ms=timeout_ms)], exclusive=True)


def _expected(places: Mapping[Vip, Place], nics: Sequence[str]) -> set[Verdict]:
    return {verdict for vip, place in places.items() for verdict in ruleset.verdicts(vip, place, nics)}


def _exists(nic: str) -> bool:
    try:
        socket.if_nametoindex(nic)
    except OSError:
        return False
    return True
