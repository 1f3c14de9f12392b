"""The daemon's hand on the dead-man's switch: what is let through, until when, and what happens when it fails.

Input: VIPs to let through, the end of validity. Output: the switch as it should be. It must not decide who holds
what. With `--no-switch` there is none: every call succeeds and does nothing, and `weak` says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from kvip import metrics
from kvip.core.model import Vip
from kvip.errors import KvipError, SwitchError
from kvip.kernel.switch import Expired, Late, Switch

log = logging.getLogger(__name__)

GROUP = "main"
"""The lease group of all VIPs where they hang on one Lease: in `claims` the node's heartbeat, in `global` the shared Lease."""


class Guard:
    """Owns the switch. `switch` None = `--no-switch`."""

    def __init__(self, switch: Switch | None) -> None:
        self._switch = switch
        self._nics: tuple[str, ...] = ()
        self._places: dict[Vip, str] = {}
        self._admitted: dict[Vip, str] = {}
        self._unsilenced: dict[Vip, str] = {}
        self._others: frozenset[Vip] = frozenset()
        self._installed = False
        self._armed: set[str] = set()
        self._until: dict[str, float] = {}
        self._broken = ""
        metrics.switch_enabled.set(switch is not None)

    @property
    def weak(self) -> bool:
        """True without a switch: a daemon that cannot run goes on answering."""
        return self._switch is None

    @property
    def problem(self) -> str:
        """Why nothing can be let through now; "" = all is well."""
        return self._broken

    def admitted(self, vip: Vip) -> bool:
        """Is the VIP let through while this node's validity lasts? Always True without a switch."""
        return self._switch is None or vip in self._admitted

    def lets_through(self, vip: Vip, group: str) -> bool:
        """The same, while the validity of this very lease group lasts."""
        return self._switch is None or self._admitted.get(vip) == group

    def vips(self) -> Iterable[Vip]:
        """Every VIP that the switch knows, answering or silent."""
        return tuple(self._places)

    def members(self, group: str) -> frozenset[Vip]:
        """The VIPs that are let through while this group is valid. Empty without a switch."""
        return frozenset(vip for vip, its in self._admitted.items() if its == group)

    def guards(self, vip: Vip) -> bool:
        """Does the switch know this VIP (answering or silent)?"""
        return vip in self._places

    def install(self, nics: Iterable[str], places: Mapping[Vip, str]) -> None:
        """At start: the rules, with these VIPs silent and nothing alive. Raises SwitchError."""
        if self._switch is None:
            return
        self._nics = tuple(dict.fromkeys(nics))
        self._places = dict(places)
        self._admitted.clear()
        self._unsilenced.clear()
        self._armed.clear()
        self._switch.install(nics=self._nics, vips=self._places)
        self._installed = True

    def admit(self, places: Mapping[Vip, str], group: str = GROUP) -> None:
        """Let these VIPs through while the group is valid. Raises SwitchError: then nothing of them may be bound."""
        if self._switch is None or not places:
            return
        if not all(map(self._switch.covers, set(places.values()))):
            problem = self._add(places.values()) or ("" if all(map(self._switch.covers, set(places.values()))) else "the NIC is not there")
            if problem:
                raise SwitchError(problem)
        self._switch.admit(places, group)
        self._places.update(places)
        self._admitted.update(dict.fromkeys(places, group))
        self._forgive(places)

    def move(self, vip: Vip, group: str) -> None:
        """If this VIP is let through, it is while that group is valid. Raises SwitchError."""
        if vip in self._admitted:
            self.admit({vip: self._places[vip]}, group)

    def _add(self, nics: Iterable[str]) -> str:
        """Rules for more NICs. Where they cannot be had, those for the others stay."""
        former, admitted = self._nics, self._admitted.copy()
        self._nics = tuple(dict.fromkeys((*former, *nics)))
        problem = self._put_back_and_arm()
        if problem and self._nics != former:
            self._nics, self._admitted = former, admitted
            self._put_back_and_arm()
        return problem

    def silence(self, places: Mapping[Vip, str]) -> None:
        """These VIPs stay bound but must not answer. A failure is logged: the switch's own end of validity remains, and before it is
        armed again they are silenced."""
        if self._switch is None or not places:
            return
        self._shut_out(places)
        try:
            self._switch.silence(places)
            self._places.update(places)
            self._forgive(places)
        except SwitchError as error:
            self._unsilenced.update(places)
            log.error("VIPs could not be silenced in the kernel", extra={"vips": sorted(places), "reason": str(error)})

    def remove(self, vips: Iterable[Vip]) -> None:
        """These VIPs are not bound any more. A failure is logged and mended by the next audit."""
        known = [vip for vip in vips if vip in self._places]
        if self._switch is None or not known:
            return
        self._shut_out(known)
        try:
            self._switch.remove(known)
        except SwitchError as error:
            log.warning("VIPs could not be taken out of the switch", extra={"vips": known, "reason": str(error)})
            return
        for vip in known:
            self._places.pop(vip, None)
        self._forgive(known)

    def _forgive(self, vips: Iterable[Vip]) -> None:
        for vip in vips:
            self._unsilenced.pop(vip, None)

    def others(self, vips: frozenset[Vip]) -> None:
        """VIPs that are local here though another node may hold them: their ARP and NS stay unanswered (PROTOCOL K6)."""
        if self._switch is None or vips == self._others:
            return
        try:
            self._switch.others(vips)
            self._others = vips
        except SwitchError as error:
            log.warning("VIPs of others could not be silenced", extra={"vips": sorted(vips), "reason": str(error)})

    def arm(self, until: float, group: str = GROUP) -> str:
        """The group is valid until then. Returns "" or why its VIPs must be let go of."""
        if self._switch is None:
            return ""
        self.silence(dict(self._unsilenced))
        if self._unsilenced:
            return "the switch still lets VIPs through that are not this node's"
        self._until[group] = until
        try:
            if group in self._armed:
                self._switch.rearm(group, until=until)
            else:
                self._switch.provide(group)
                self._switch.arm_first(group, until=until)
                self._armed.add(group)
        except Late:
            self._armed.discard(group)
            return "renewed too late for the switch"
        except Expired:
            self._armed.discard(group)
            if self._intact():
                return "switched off by the kernel"
            return self._put_back_and_arm()
        except SwitchError as error:
            self._armed.discard(group)
            log.warning("the switch could not be armed", extra={"reason": str(error)})
            return "the switch cannot be armed" if self._intact() else self._put_back_and_arm()
        return ""

    def disarm(self, group: str | None = None) -> None:
        """Nothing of the group (None = of any) answers from now on. A failure is logged: then the rules are gone, or the kernel's own timer
        remains."""
        if self._switch is None:
            return
        for each in [*self._until, *self._armed] if group is None else [group]:
            self._armed.discard(each)
            self._until.pop(each, None)
        if not self._installed:
            return
        try:
            self._switch.disarm(group)
        except SwitchError as error:
            log.error("the switch could not be disarmed; it runs out by itself", extra={"reason": str(error)})

    def check(self) -> str:
        """Someone may have changed the rules: put them back, silent first, then armed. Returns "" or why to fence."""
        if self._switch is None or self._intact():
            self._broken = ""
            return ""
        return self._put_back_and_arm()

    def owns(self, port: int) -> bool:
        """Was a change of rules, notified with that netlink port, made by this daemon?"""
        return self._switch is not None and self._switch.owns(port)

    def covers(self, nic: str) -> bool:
        """Does the switch guard what leaves this NIC? False after the NIC was removed, until it is put back."""
        return self._switch is None or self._switch.covers(nic)

    def uninstall(self) -> None:
        """At the end, once nothing is bound: remove the rules."""
        if self._switch is None:
            return
        try:
            self._switch.uninstall()
            self._installed = False
        except SwitchError as error:
            log.warning("the switch's rules could not be removed; `kvip sweep` does", extra={"reason": str(error)})

    def _shut_out(self, vips: Iterable[Vip]) -> None:
        for vip in vips:
            self._admitted.pop(vip, None)

    def _intact(self) -> bool:
        assert self._switch is not None
        try:
            return self._switch.intact()
        except KvipError as error:
            log.warning("the switch cannot be read", extra={"reason": str(error)})
            return False

    def _put_back_and_arm(self) -> str:
        assert self._switch is not None
        admitted, others = dict(self._admitted), self._others
        places = dict(self._places)
        self._others = frozenset()
        try:
            self.install(self._nics, places)
            for group in set(admitted.values()):
                self.admit({vip: places[vip] for vip, its in admitted.items() if its == group}, group)
            self.others(others)
            for group, until in self._until.items():
                self._switch.arm_first(group, until=until)
                self._armed.add(group)
        except (Late, Expired):
            return "renewed too late for the switch"
        except SwitchError as error:
            self._admitted.clear()
            if not self._broken:
                log.error(
                    "the switch's rules are gone and cannot be put back; nothing is held until they are", extra={"reason": str(error)}
                )
            self._broken = str(error)
            return "the switch cannot be put back"
        metrics.switch_restored_total.inc()
        log.warning("the switch's rules were put back: someone removed them, or a NIC was added", extra={"vips": len(places)})
        self._broken = ""
        return ""
