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
"""The lease group of all VIPs: in `claims` the node's heartbeat, in `global` the shared Lease."""


class Guard:
    """Owns the switch. `switch` None = `--no-switch`."""

    def __init__(self, switch: Switch | None) -> None:
        self._switch = switch
        self._nics: tuple[str, ...] = ()
        self._places: dict[Vip, str] = {}
        self._admitted: set[Vip] = set()
        self._unsilenced: dict[Vip, str] = {}
        self._others: frozenset[Vip] = frozenset()
        self._installed = False
        self._armed = False
        self._until: float | None = None
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

    def vips(self) -> Iterable[Vip]:
        """Every VIP that the switch knows, answering or silent."""
        return tuple(self._places)

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
        self._armed = False
        self._switch.install(nics=self._nics, vips=self._places)
        self._installed = True

    def admit(self, places: Mapping[Vip, str]) -> None:
        """Let these VIPs through while valid. Raises SwitchError: then nothing of them may be bound."""
        if self._switch is None or not places:
            return
        if not all(map(self._switch.covers, set(places.values()))):
            problem = self._put_back_and_arm() or ("" if all(map(self._switch.covers, set(places.values()))) else "the NIC is not there")
            if problem:
                raise SwitchError(problem)
        self._switch.admit(places, GROUP)
        self._places.update(places)
        self._admitted.update(places)
        self._forgive(places)

    def silence(self, places: Mapping[Vip, str]) -> None:
        """These VIPs stay bound but must not answer. A failure is logged: the switch's own end of validity remains, and before it is
        armed again they are silenced."""
        if self._switch is None or not places:
            return
        self._admitted.difference_update(places)
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
        self._admitted.difference_update(known)
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

    def arm(self, until: float) -> str:
        """Valid until then. Returns "" or why this node must fence."""
        if self._switch is None:
            return ""
        self.silence(dict(self._unsilenced))
        if self._unsilenced:
            return "the switch still lets VIPs through that are not this node's"
        self._until = until
        try:
            if self._armed:
                self._switch.rearm(GROUP, until=until)
            else:
                self._switch.arm_first(GROUP, until=until)
                self._armed = True
        except Late:
            self._armed = False
            return "renewed too late for the switch"
        except Expired:
            self._armed = False
            if self._intact():
                return "switched off by the kernel"
            return self._put_back_and_arm()
        except SwitchError as error:
            self._armed = False
            log.warning("the switch could not be armed", extra={"reason": str(error)})
            return "the switch cannot be armed" if self._intact() else self._put_back_and_arm()
        return ""

    def disarm(self) -> None:
        """Nothing answers from now on. A failure is logged: then the rules are gone, or the kernel's own timer remains."""
        if self._switch is None:
            return
        self._armed = False
        self._until = None
        if not self._installed:
            return
        try:
            self._switch.disarm()
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

    def _intact(self) -> bool:
        assert self._switch is not None
        try:
            return self._switch.intact()
        except KvipError as error:
            log.warning("the switch cannot be read", extra={"reason": str(error)})
            return False

    def _put_back_and_arm(self) -> str:
        assert self._switch is not None
        admitted, others = frozenset(self._admitted), self._others
        places = dict(self._places)
        self._others = frozenset()
        try:
            self.install(self._nics, places)
            self.admit({vip: places[vip] for vip in admitted})
            self.others(others)
            if self._until is not None:
                self._switch.arm_first(GROUP, until=self._until)
                self._armed = True
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
