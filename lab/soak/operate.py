"""Does what the plan says, when it says so, and tells the `World` what it did.

In: operations with times, a `Cluster`. Out: Services changed, faults injected and ended; a record of each. It must not judge. A fault
that lasts is ended by what undoes it, in the order of the ends.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from lab.cluster import Cluster, now
from lab.embeddedapi import EmbeddedApi
from lab.lan import api_ip
from lab.soak.model import (
    API_WIDE,
    DAEMON_OFF,
    ENDING,
    FAILURES,
    FAULT_KINDS,
    LASTING_NODE,
    Fault,
    FaultKind,
    Operation,
    Round,
)
from lab.soak.services import ServiceWriter
from lab.soak.world import World

LAST = 20
POLL_S = 0.02
PUT_BACK_S = 1.5


class _End(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that lasts, and what ends it."""

    at_s: float
    undo: Callable[[], object]
    fault: Fault


class Operator:
    """Runs rounds; see the module."""

    def __init__(self, cluster: Cluster, world: World, *, watchful: Callable[[], None]) -> None:
        """`watchful` is called between operations; it raises to stop the soak."""
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.problems: list[str] = []
        """What a daemon did wrong at a signal."""
        self.last: deque[str] = deque(maxlen=LAST)
        self._cluster = cluster
        self._world = world
        self._watchful = watchful
        self._ends: list[_End] = []
        self._services = ServiceWriter(cluster, world)
        self._restart: threading.Thread | None = None

    def run(self, rnd: Round) -> None:
        """Do the operations of a round at their times, then let it end."""
        began_s = now()
        for operation in rnd.operations:
            self._until(began_s + operation.at_s)
            self._do(operation)
        self._until(began_s + rnd.lasts_s)

    def heal(self) -> None:
        """End every fault now, and find out what is unknown."""
        for fault in self._world.in_force(""):
            self._end(fault)
        self._join_restart()
        while self._ends:
            self._end(self._ends[0].fault)
        for name in self._world.unknown():
            self._services.reread(name)

    def _until(self, at_s: float) -> None:
        while True:
            self._watchful()
            for due in [end for end in self._ends if end.at_s <= now()]:
                # What is switched at the API server itself waits until that answers.
                if due.fault.kind != "swallow" or not self._api_away:
                    self._end(due.fault)
            left_s = at_s - now()
            if left_s <= 0:
                return
            time.sleep(min(left_s, POLL_S))

    def _note(self, what: str) -> None:
        self.last.append(f"{now() - self._world.began_s:9.3f}  {what}")

    def _do(self, operation: Operation) -> None:
        operation = self._aimed(operation)
        self._note(operation.told())
        try:
            did = self._inject(operation) if operation.kind in FAULT_KINDS else not self._api_away and self._services.write(operation)
        except FAILURES as error:
            self.failed[operation.kind] += 1
            self._note(f"  failed: {type(error).__name__}: {error}")
            return
        (self.done if did else self.skipped)[operation.kind] += 1
        if not did:
            self._note("  skipped")

    def _aimed(self, operation: Operation) -> Operation:
        """With the node that it really hits."""
        if not operation.busiest:
            return operation
        bound = self._cluster.left()
        node = max(bound, key=lambda name: len(bound[name]), default=operation.node)
        if node == LASTING_NODE and operation.kind in ENDING:
            node = operation.node
        return msgspec.structs.replace(operation, node=node, busiest=False)

    # -- faults ----------------------------------------------------------------------------------------------------------

    @property
    def _api_away(self) -> bool:
        return any(fault.kind in ("api_down", "stall") for fault in self._world.in_force(""))

    def _inject(self, operation: Operation) -> bool:
        node, kind = operation.node, operation.kind
        in_force = {fault.kind for fault in self._world.in_force(node)}
        if kind in in_force or (self._api_away and (kind in API_WIDE or kind == "swallow")):
            return False
        if in_force & DAEMON_OFF and (kind in DAEMON_OFF or kind == "flush"):
            return False
        recent = self._world.recent(now() - PUT_BACK_S)
        if kind in DAEMON_OFF and any(fault.kind == "flush" and fault.node == node for fault in recent):
            return False  # rules flushed and nobody left to put them back: only the addresses' lifetime would remain
        if kind == "flush" and not self._serves(node):
            return False  # the same: a daemon that still starts has not put its own rules up
        match kind:
            case "kill":
                self._cluster.nodes[node].kill9()
                self._lasts(operation, self._cluster.nodes[node].start)
            case "term":
                fault = self._lasts(operation, self._cluster.nodes[node].start)
                self._terminate(node, fault)
            case "freeze":
                self._cluster.nodes[node].freeze()
                self._lasts(operation, self._cluster.nodes[node].thaw)
            case "cut":
                self._cluster.lan.cut_api(node)
                self._lasts(operation, lambda: self._cluster.lan.cut_api(node, False))
            case "nic_down":
                self._cluster.lan.nic_down(node)
                self._lasts(operation, lambda: self._cluster.lan.nic_up(node))
            case "stall":
                self._cluster.api.stall(True)
                self._lasts(operation, lambda: self._cluster.api.stall(False))
            case "api_down":
                self._cluster.api.kill_api()
                self._lasts(operation, self._cluster.api.restart_api)
            case "swallow":
                self._embedded().set_faults(client=api_ip(node), swallow_events=True)
                self._lasts(operation, lambda: self._show_again(node))
            case "compact":
                self._instant(operation)
                self._embedded().set_faults(compact=True, drop_watches=True)
            case "flush":
                self._instant(operation)
                self._cluster.lan.run(node, "nft", "flush", "ruleset")
            case "addr_del":
                return self._remove_addresses(operation)
        return True

    def _serves(self, node: str) -> bool:
        """Has the daemon of this node begun? It silences what is bound first, and answers requests after that."""
        try:
            self._cluster.nodes[node].get("/healthz", timeout_s=0.3)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _lasts(self, operation: Operation, end: Callable[[], object]) -> Fault:
        fault = self._world.begin(_fault_kind(operation), operation.node, at_s=now())
        self._ends.append(_End(at_s=fault.began_s + operation.lasts_s, undo=end, fault=fault))
        self._ends.sort(key=lambda end: end.at_s)
        return fault

    def _instant(self, operation: Operation, *, vip: str = "") -> None:
        fault = self._world.begin(_fault_kind(operation), operation.node, at_s=now(), vip=vip)
        fault.ending_s = fault.ended_s = fault.began_s

    def _end(self, fault: Fault) -> None:
        end = next((end.undo for end in self._ends if end.fault is fault), None)
        if end is None:
            return  # a restart of the API server, under way already
        self._ends = [end for end in self._ends if end.fault is not fault]
        self._note(f"  end of {fault.kind} {fault.node}")
        fault.ending_s = now()
        if fault.kind == "api_down":
            # Seconds with the real server: nodes go on being hurt meanwhile.
            self._restart = threading.Thread(target=self._finish, args=(end, fault), name="soak api restart")
            self._restart.start()
        else:
            self._finish(end, fault)

    def _finish(self, end: Callable[[], object], fault: Fault) -> None:
        try:
            end()
        except FAILURES as error:
            self.problems.append(f"{fault.kind} {fault.node} could not be ended: {error}")
        fault.ended_s = now()

    def _join_restart(self) -> None:
        if self._restart is not None:
            self._restart.join(90.0)
            self._restart = None

    def _terminate(self, node: str, fault: Fault) -> None:
        try:
            self._cluster.nodes[node].stop(deadline_s=3.0)
        except FAILURES as error:
            self.problems.append(f"SIGTERM to {node} at {fault.began_s - self._world.began_s:.3f}: {error}")

    def _show_again(self, node: str) -> None:
        """Events are told again; what was missed shows by a List, to which a forgotten history forces."""
        embedded = self._embedded()
        embedded.set_faults(client=api_ip(node), swallow_events=False)
        embedded.set_faults(client=api_ip(node), compact=True, drop_watches=True)

    def _remove_addresses(self, operation: Operation) -> bool:
        """The first of these VIPs that is bound anywhere is removed there, as by an administrator."""
        for vip in operation.vips:
            for node in self._cluster.bound(vip):
                self._instant(operation, vip=vip)
                self._cluster.lan.run(node, "ip", "addr", "del", f"{vip}/32", "dev", "eth0", check=False)
                self._note(f"  {vip} removed on {node}")
                return True
        return False

    def _embedded(self) -> EmbeddedApi:
        api = self._cluster.api
        if not isinstance(api, EmbeddedApi):
            raise TypeError("only the embedded API server swallows events")
        return api


def _fault_kind(operation: Operation) -> FaultKind:
    return next(kind for kind in FAULT_KINDS if kind == operation.kind)
