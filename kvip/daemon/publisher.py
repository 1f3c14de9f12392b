"""Tells Kubernetes what the kernel confirmed: status.loadBalancer.ingress and Events.

Input: frames that left, addresses that are gone, and the ledger. Output: status patches and Events, queued. It must
not say anything that did not happen, and never removes an entry at a hand-over, fence or stop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from kvip.clock import Clock
from kvip.core.desired import shown_by_another
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.objects import Service
from kvip.core.problem import Problem
from kvip.core.strays import Stray
from kvip.daemon.hosts import HostNotes
from kvip.daemon.rounds import Rounds
from kvip.kube.events import EventWriter
from kvip.kube.status import StatusWriter, merge_ingress

log = logging.getLogger(__name__)


LATE_WRITE_S = 5.0
"""A status write of another node that was under way may still show a withdrawn VIP for so long."""
SPEAKER_S = 2.0
"""So long a removal is left to the node that speaks; it may not know of it, if it did not run or was cut off when the VIP was asked for."""


class _Withdrawn:
    """VIPs that a Service no longer asks for, and when the last of them was withdrawn."""

    def __init__(self, service: ServiceKey) -> None:
        self.service = service
        self.vips: set[Vip] = set()
        self.at = 0.0

    def note(self, vips: Iterable[Vip], at: float) -> None:
        self.vips.update(vips)
        self.at = at


class Publisher:
    """Keeps which VIPs are announced from here, and what was published about them.

    `status`, `hosts` None: that is not written.
    `speaks`: True while this node speaks for the Service of this UID; the others stay quiet, so that nothing is said twice.
    `covers`: is the VIP held for this Service too? One that came to share an address may yet be what takes it from here.
    `granted_elsewhere`: a Service names a VIP and does not get it on this node; may another node grant it, as one with other settings or
    other addresses does? None = no; else whether one is known to hold it.
    `later` calls `service_changed` for a Service of which a VIP was just announced, when there is time; None = at once.
    `answers_for_others`: would the kernel answer ARP on the VIPs' NIC for addresses of other NICs?
    """

    def __init__(
        self,
        *,
        node: str,
        ledger: Ledger,
        services: Callable[[], Mapping[str, Service]],
        status: StatusWriter | None,
        hosts: HostNotes | None,
        events: EventWriter,
        speaks: Callable[[Uid], bool],
        covers: Callable[[Vip, ServiceKey], bool],
        granted_elsewhere: Callable[[Service, Vip], bool | None],
        clock: Clock,
        answers_for_others: Callable[[], bool],
        later: Callable[[ServiceKey], None] | None = None,
    ) -> None:
        self._later = later if later is not None else self.service_changed
        self._answers_for_others = answers_for_others
        self._clock = clock
        self._speaks = speaks
        self._covers = covers
        self._granted_elsewhere = granted_elsewhere
        self._node = node
        self._ledger = ledger
        self._services = services
        self._status = status
        self._hosts = hosts
        self._events = events
        self._nic: dict[Vip, str] = {}
        self._told: dict[Vip, set[Uid]] = {}
        self._withdrawn: dict[Uid, _Withdrawn] = {}
        self._untold: dict[Uid, tuple[ServiceKey, Sequence[Problem]]] = {}
        self._telling: Rounds[Uid] = Rounds(clock)
        """Of what is untold."""
        self._removing: Rounds[Uid] = Rounds(clock)
        """Of what is withdrawn."""
        self._blocked = ""
        self._proxied = False

    def announced(self, vip: Vip, nic: str) -> None:
        """The VIP's first frame left."""
        self._nic[vip] = nic
        self._told.setdefault(vip, set())
        for claimant in self._ledger.claimants(vip).values():
            self._later(claimant.service)

    def announces(self, vip: Vip) -> bool:
        """Is the VIP announced from here?"""
        return vip in self._nic

    def announces_for(self, vip: Vip, service: ServiceKey) -> bool:
        """Is the VIP announced from here, and held for this Service?"""
        return vip in self._nic and self._covers(vip, service)

    def stopped(self, vip: Vip) -> None:
        """The VIP is not announced from here any more."""
        self._nic.pop(vip, None)
        self._told.pop(vip, None)
        if self._hosts is not None:
            for claimant in self._ledger.claimants(vip).values():
                self.service_changed(claimant.service)

    def stopped_all(self) -> None:
        """Nothing is announced from here any more."""
        self._nic.clear()
        self._told.clear()

    def released(self, vip: Vip, former: Iterable[Claimant], *, reason: str) -> None:
        """The address is gone because nobody claims it."""
        for claimant in former:
            self._post(claimant, "VIPReleased", f"{vip} is no longer bound or announced on {self._node}: {reason}")

    def swept(self, vip: Vip, former: Iterable[Claimant]) -> None:
        """An address that a former daemon left was removed; its Service is gone or no longer asks for it."""
        for claimant in former:
            self._post(claimant, "VIPSwept", f"{vip} was left behind on {self._node} and has been removed")

    def problems(self, service: ServiceKey, uid: Uid, problems: Sequence[Problem]) -> None:
        """Tell the Service what is not done as it asks, as soon as this node speaks for it."""
        self._untold.pop(uid, None)
        self._telling.drop(uid)
        if problems:
            self._untold[uid] = (service, problems)
            self._telling.add(uid)
            self._tell_problems(uid)

    def _tell_problems(self, uid: Uid) -> None:
        if not self._speaks(uid):
            return
        service, problems = self._untold.pop(uid)
        self._telling.drop(uid)
        for problem in problems:
            self._events.post(service, uid, reason=problem.reason, message=problem.message, warning=True)

    def catch_up(self) -> None:
        """What could not be said or written while another node spoke, or while nobody did."""
        for uid in self._telling.due():
            self._tell_problems(uid)
        for key in self._hosts.due() if self._hosts is not None else ():
            self.service_changed(key)
        for uid in self._removing.due():
            withdrawn = self._withdrawn[uid]
            service = self._services().get(withdrawn.service)
            if service is None or service.metadata.uid != uid:
                self.forget(uid)
            elif self._speaks(uid) or self._overdue(uid):
                self.service_changed(withdrawn.service)

    def conflict(self, vip: Vip, claimants: Iterable[Claimant], *, nic: str) -> None:
        """The VIP's address is on this node without kvip's mark."""
        for claimant in claimants:
            self._post(
                claimant,
                "VIPConflict",
                f"{vip} is an address of {self._node} ({nic}) that kvip did not add; left alone, not announced",
                warning=True,
            )

    def foreign_host(self, vip: Vip, mac: bytes, *, nic: str) -> None:
        """Another host on the segment has the VIP's address."""
        held = vip in self._nic
        state = "it is announced again, to defend it" if held else "it is not bound until that host gives it up"
        for claimant in self._ledger.claimants(vip).values():
            self._post(claimant, "VIPConflict", f"{vip} is used by the host {mac.hex(':')} ({nic} of {self._node}); {state}", warning=True)

    def duplicate(self, vip: Vip, *, nic: str) -> None:
        """The kernel found another host with the VIP's address."""
        what = f"another host has {vip}, by the kernel's duplicate address detection ({nic} of {self._node})"
        for claimant in self._ledger.claimants(vip).values():
            self._post(claimant, "VIPConflict", f"{what}; it is bound again when nobody answers for it", warning=True)

    def not_bound(self, vip: Vip, problem: str) -> None:
        """The kernel refused the VIP several times in a row."""
        for claimant in self._ledger.claimants(vip).values():
            self._post(claimant, "BindFailed", f"{vip} cannot be bound on {self._node}: {problem}; tried again later", warning=True)

    def not_secured(self, vip: Vip, problem: str) -> None:
        """The rules that only its Services' ports reach the VIP could not be applied on this node."""
        message = (
            f"the firewall rules of {vip} cannot be applied on {self._node}: {problem}; without former rules it is not held there, "
            "else those stay in force"
        )
        for claimant in self._ledger.claimants(vip).values():
            self._post(claimant, "RulesNotApplied", message, warning=True)

    def unplaced(self, claimant: Claimant, problem: Problem) -> None:
        """No NIC of this node does for a VIP, and nobody else holds it."""
        self._post(claimant, problem.reason, problem.message, warning=True)

    def blocked(self, reason: str) -> None:
        """This node takes nothing at present, for a reason that concerns all VIPs; "" = it may."""
        if reason and reason != self._blocked:
            self._events.post_on_node(reason="ElectionBlocked", message=reason)
        self._blocked = reason

    def local_elsewhere(self, vips: frozenset[Vip]) -> None:
        """VIPs that kube-proxy (mode ipvs) made local on this node, whoever holds them (PROTOCOL K6)."""
        if vips and not self._proxied and self._answers_for_others():
            message = (
                f"{len(vips)} VIPs, as {min(vips)}, are local on {self._node} (kube-ipvs0) and its kernel would answer ARP for them beside "
                "their holder; kvip silences that while it runs. Set strictARP: true in kube-proxy's configuration (ipvs)"
            )
            log.warning("kube-proxy made VIPs local, and the kernel would answer for them; set its strictARP", extra={"vips": len(vips)})
            self._events.post_on_node(reason="StrictARPMissing", message=message)
        self._proxied = bool(vips)

    def stray(self, stray: Stray) -> None:
        """An address that is not kvip's lies on the VIPs' NIC without a live owner."""
        for owner in stray.services:
            message = f"{stray.message} (on {self._node})"
            self._events.post(owner.service, owner.uid, reason="StrayAddress", message=message, warning=True)

    def withdrawn(self, service: ServiceKey, uid: Uid, vips: Iterable[Vip]) -> None:
        """The Service (of this UID) no longer asks for these VIPs: their status entries are ours to remove."""
        gone = set(vips)
        if gone:
            self._withdrawn.setdefault(uid, _Withdrawn(service)).note(gone, self._clock.now())
            self._removing.add(uid)

    def service_changed(self, key: ServiceKey) -> None:
        """Bring the Service's status in line with what is announced from here."""
        service = self._services().get(key)
        if service is None:
            if self._hosts is not None:
                self._hosts.forget(key)
            return
        uid = Uid(service.metadata.uid)
        # The cache may hold a Service of this name that the ledger does not know yet.
        asked = {vip for vip in self._ledger.claims_of(key) if uid in self._ledger.claimants(vip)}
        if self._hosts is not None:
            self._hosts.look(key, service, asked)
        gone = self._still_shown(service, uid, asked)
        mine = sorted(vip for vip in asked if self.announces_for(vip, key))
        if not mine and not self._speaks(uid) and not (gone and self._overdue(uid)):
            return
        for vip in mine:
            self._tell_bound(vip, uid)
        add = [vip for vip in mine if not self._ledger.claimants(vip)[uid].from_status]
        entries = merge_ingress(service.ingress, add=add, remove=sorted(gone))
        if entries is not None and self._status is not None:
            self._status.set_ingress(service, entries)

    def _still_shown(self, service: Service, uid: Uid, asked: set[Vip]) -> set[Vip]:
        """VIPs in the status that were withdrawn; forgets what is shown no more."""
        withdrawn = self._withdrawn.get(uid)
        if withdrawn is None or shown_by_another(service):
            return set()
        shown = {entry.ip for entry in service.ingress}
        held = {vip: self._granted_elsewhere(service, vip) for vip in withdrawn.vips - asked}
        # What other nodes grant is removed once at most: that it is shown again means that one of them holds it.
        withdrawn.vips -= {vip for vip, by_another in held.items() if by_another is not None} - shown
        gone = {vip for vip, by_another in held.items() if vip in shown and not by_another}
        if not gone and self._clock.now() - withdrawn.at > LATE_WRITE_S:
            del self._withdrawn[uid]
            self._removing.drop(uid)
        return gone

    def _overdue(self, uid: Uid) -> bool:
        withdrawn = self._withdrawn.get(uid)
        return withdrawn is not None and self._clock.now() - withdrawn.at > SPEAKER_S

    def forget(self, uid: Uid) -> None:
        """The Service of this UID is gone."""
        self._withdrawn.pop(uid, None)
        self._removing.drop(uid)
        self._untold.pop(uid, None)
        self._telling.drop(uid)

    def _tell_bound(self, vip: Vip, uid: Uid) -> None:
        told = self._told.setdefault(vip, set())
        claimants = self._ledger.claimants(vip)
        told.intersection_update(claimants)
        claimant = claimants.get(uid)
        if uid not in told and claimant is not None:
            told.add(uid)
            self._post(claimant, "VIPBound", f"{vip} is bound and announced on {self._node} ({self._nic[vip]})")

    def _post(self, claimant: Claimant, reason: str, message: str, *, warning: bool = False) -> None:
        self._events.post(claimant.service, claimant.uid, reason=reason, message=message, warning=warning)
