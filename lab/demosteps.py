"""The steps of the demo: a Service's VIP from bound to gone, then a Service that is deleted while its holder's daemon is dead.

In: a LAN, its nodes' processes, a client of the API server. Out: lines with measured times since the step began; `NotSeen` when a
step did not happen. Frames have the kernel's receive time; a change of address is taken when the node's kernel tells of
it; other states are polled, so their times are upper bounds. Must not: state what was not observed.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from kvip.core.model import MARK_PROTO, Address
from lab.demolook import look
from lab.demoview import Picture
from lab.kubeapi import KubeApi
from lab.lan import CLIENT, CLIENT_IP, Lan, node_ip
from lab.narration import Narration, NotSeen, now_s
from lab.node import NodeProcess
from lab.prober import Prober
from lab.sniffer import Sniffer

T = TypeVar("T")

FIRST_VIP, SECOND_VIP = "10.10.0.200", "10.10.0.201"
POLL_S = 0.002
ADDRESS_POLL_S = 0.05
PROBE_S = 0.002
"""Between two ARP requests of the client."""
_RTMGRP_IPV4_IFADDR = 0x10  # linux/rtnetlink.h: changes of IPv4 addresses
SILENCE_S = 0.5
"""How long nobody answers before the demo says so."""
KERNEL_SILENT_S = 6.0
"""More than the renew deadline, after which the switch has run out."""


class DemoSteps:
    """The steps. `api` is used from one thread of its own, so that a state can be watched while a request is under way."""

    def __init__(
        self,
        lan: Lan,
        api: KubeApi,
        nodes: list[NodeProcess],
        ask: Callable[[Coroutine[Any, Any, Any]], Future[Any]],
        *,
        tell: Narration,
    ) -> None:
        self.tell = tell
        self._vip = ""
        self._prober: Prober | None = None
        self._lan = lan
        self._api = api
        self._nodes = nodes
        self._ask = ask
        self._alarms = [lan.ns(node).socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) for node in lan.nodes]
        for alarm in self._alarms:
            alarm.bind((0, _RTMGRP_IPV4_IFADDR))
            alarm.setblocking(False)

    def until(self, what: str, probe: Callable[[], T | None], *, deadline_s: float, seen: Callable[[], str] | None = None) -> T:
        """The first answer of `probe` that is neither None nor False. Errors: `NotSeen` after `deadline_s`."""
        end_s = now_s() + deadline_s
        while True:
            found = probe()
            if found is not None and found is not False:
                return found
            if now_s() >= end_s:
                raise NotSeen(f"{what}: not within {deadline_s:g} s; seen: {(seen or self.bound)()}")
            time.sleep(POLL_S)

    def when_address(self, what: str, probe: Callable[[], T | None]) -> tuple[T, float]:
        """As `until`, for what a change of address brings about: the answer, and when the kernel told of it (else when seen)."""
        end_s = now_s() + 5.0
        while True:
            told = self._told_of_change(ADDRESS_POLL_S)
            at_s = now_s()
            found = probe()
            if found is not None and found is not False:
                return found, at_s if told else now_s()
            if at_s >= end_s:
                raise NotSeen(f"{what}: not within 5 s; seen: {self.bound()}")

    def _told_of_change(self, timeout_s: float = 0.0) -> bool:
        """Wait until an address changes on a node; with 0, forget earlier changes."""
        alarms: list[socket.socket] = select.select(self._alarms, [], [], timeout_s)[0]
        for alarm in alarms:
            with contextlib.suppress(BlockingIOError):
                while alarm.recv(65_536):
                    pass
        return bool(alarms)

    def close(self) -> None:
        """Close what was opened to watch the nodes."""
        for alarm in self._alarms:
            alarm.close()

    def bound(self) -> str:
        """Every marked address on every node, as text."""
        return ", ".join(f"{node.node} ({'runs' if node.running else 'dead'}) has {node.vips() or 'no VIP'}" for node in self._nodes)

    def holder_of(self, vip: str) -> tuple[NodeProcess, Address] | None:
        """The node that has the VIP with kvip's mark."""
        return next(((node, address) for node in self._nodes for address in node.marked_addresses() if address.ip == vip), None)

    def start(self) -> None:
        """Daemons up, each with a heartbeat."""
        self.tell.step("Start `kvip manager` on n1 and n2 (lease 5 s, renew deadline 3 s, retry period 1 s)")
        for node in self._nodes:
            node.start()
        for node in self._nodes:
            node.wait_ready(10.0)
            self.tell.event(f"{node.node} ready (pid {node.pid}, {node_ip(node.node)}, MAC {self._lan.mac(node.node)})")
        self.until("each node's heartbeat is confirmed", self._may_hold, deadline_s=8.0, seen=self._leases)
        self.tell.event("each node's heartbeat is confirmed: it may hold VIPs")

    def _may_hold(self) -> bool:
        return all(node.metrics().get("kvip_lease_holding") == 1 for node in self._nodes)

    def _leases(self) -> str:
        leases = self._ask(self._api.leases()).result(5.0)
        return ", ".join(f"{name} = {lease['spec'].get('holderIdentity') or 'nobody'}" for name, lease in leases.items()) or "no Lease"

    def create(self, name: str, vip: str, sniffer: Sniffer) -> NodeProcess:
        """A Service asks for `vip`: bound, announced. Returns the holder."""
        began_s = self.tell.began_s
        self._told_of_change()
        request = self._ask(self._timed(self._api.create_service(name, addresses=[vip])))
        (node, address), bound_s = self.when_address(f"{vip} bound on a node", lambda: self.holder_of(vip))
        happened = [(request.result(5.0), f"Service default/{name} created, asks for {vip}")]
        lifetime = "for ever" if address.valid_s is None else f"for {address.valid_s} s unless refreshed"
        happened.append((bound_s, f"bound on {node.node}: {vip}/{address.prefix_len}, mark {address.proto:#x}, valid {lifetime}"))
        if address.proto != MARK_PROTO or address.prefix_len != 32:
            raise NotSeen(f"{vip} as /32 with mark {MARK_PROTO:#x}; seen: {address}")
        frame = sniffer.wait_for(lambda frame: frame.announcement and frame.claimed == vip and frame.at_s >= began_s, 3.0)
        if frame is None:
            raise NotSeen(f"a gratuitous ARP for {vip} on the client's wire: not within 3 s; seen: {self.bound()}")
        kind = {1: "request", 2: "reply"}.get(frame.op, str(frame.op))
        happened.append((frame.at_s, f"first gratuitous ARP on the client's wire: ARP {kind}, {frame.sender_ip} is at {frame.sender_mac}"))
        for at_s, text in sorted(happened):
            self.tell.event(text, at_s)
        ether = f"frame: ethernet {frame.eth_src} > {frame.eth_dst}"
        self.tell.detail(f"{ether}, target {frame.target_ip} ({frame.target_mac}), {len(frame.raw)} bytes")
        if frame.sender_mac != self._lan.mac(node.node):
            raise NotSeen(f"the announcement names {node.node}'s MAC {self._lan.mac(node.node)}; seen: {frame.sender_mac}")
        return node

    @staticmethod
    async def _timed(request: Coroutine[Any, Any, Any]) -> float:
        await request
        return now_s()

    def client_uses(self, vip: str, node: NodeProcess) -> None:
        """The client connects to the VIP, then its neighbour table names the holder."""
        if not self._lan.reaches(CLIENT, vip):
            raise NotSeen(f"a TCP answer from {vip} to the client; seen: none in 3 s, {self.bound()}")
        self.tell.event(f"TCP from the client ({CLIENT_IP}) to {vip} is answered")
        mac = self._lan.mac(node.node)
        self.until(
            f"the client's neighbour table maps {vip} to {mac}", lambda: self._lan.neighbour(CLIENT, vip) == mac, deadline_s=2.0,
            seen=lambda: str(self._lan.neighbour(CLIENT, vip)),
        )  # fmt: skip
        self.tell.event(f"client's neighbour table: {vip} lladdr {mac} ({node.node})")

    def status(self, name: str, vip: str) -> None:
        """The Service's status names the VIP."""

        def ingress() -> list[dict[str, Any]]:
            service = self._ask(self._api.get_service(name)).result(5.0)
            return list(service.get("status", {}).get("loadBalancer", {}).get("ingress") or [])

        self.until(
            f"status of {name} names {vip}", lambda: [entry.get("ip") for entry in ingress()] == [vip], deadline_s=3.0,
            seen=lambda: str(ingress()),
        )  # fmt: skip
        self.tell.event(f"seen by now: status.loadBalancer.ingress = {ingress()}")
        self.tell.event(f"Leases: {self._leases()}")

    def delete(self, name: str, vip: str, prober: Prober) -> None:
        """Delete the Service: the VIP leaves its node, and nobody answers for it any more."""
        self._told_of_change()
        request = self._ask(self._timed(self._api.delete_service(name)))
        _, gone_s = self.when_address(f"{vip} off every node", lambda: self.holder_of(vip) is None)
        happened = [(gone_s, f"{vip} is on no node any more"), (request.result(5.0), f"Service default/{name} deleted")]
        if (last := self._last_answer(vip, prober)) is not None:
            happened.append((last, f"last answer to the client's ARP requests (asked every {PROBE_S * 1000:g} ms)"))
        for at_s, text in sorted(happened):
            self.tell.event(text, at_s)
        self.nothing_left(vip)

    def _last_answer(self, vip: str, prober: Prober, *, timeout_s: float = 3.0) -> float | None:
        """When the last ARP answer for the VIP came, once it has been silent for `SILENCE_S`. Errors: `NotSeen`."""
        silent = prober.wait_silent(vip, for_s=SILENCE_S, timeout_s=timeout_s)
        report = prober.report(vip)
        if not silent:
            raise NotSeen(f"no ARP answer for {vip} over {SILENCE_S:g} s; seen: answers by {sorted(report.macs)}, {self.bound()}")
        return report.last_answer.at_s if report.last_answer is not None else None

    def nothing_left(self, vip: str) -> None:
        """No marked address, no route to the VIP and no nf_tables element naming it, on any node."""
        left = [f"{node.node}: address {ip}" for node in self._nodes for ip in node.vips()]
        for name in self._lan.nodes:
            for command in (["ip", "-4", "addr"], ["ip", "-4", "route", "show", "table", "all"], ["nft", "list", "ruleset"]):
                printed = self._lan.run(name, *command).stdout.splitlines()
                left += [f"{name}: {line.strip()} ({' '.join(command)})" for line in printed if vip in line.replace("/", " ").split()]
        if left:
            raise NotSeen(f"nothing left on any node; seen: {'; '.join(left)}")
        self.tell.event(f"no ARP answer for {SILENCE_S:g} s; on n1 and n2 no marked address; no address, route or rule of the VIP")

    def journalled(self, name: str, vip: str, node: NodeProcess) -> None:
        """The holder's journal, which is written a moment after the address, names VIP and Service: a later sweep can tell whose it was."""
        journal = node.state_dir / "ledger.json"

        def text() -> str:
            return journal.read_text() if journal.exists() else "no journal"

        self.until(f"{journal} names {vip}", lambda: vip in text() and f"default/{name}" in text(), deadline_s=2.0, seen=text)
        self.tell.event(f"journal of {node.node} on disk names {vip} and default/{name}")

    def crash(self, name: str, vip: str, node: NodeProcess, prober: Prober) -> None:
        """The holder's daemon is killed and the Service deleted meanwhile: what the kernel does on its own."""
        self.tell.step(f"kill -9 of the daemon on {node.node}, and the Service is deleted while it is dead")
        node.kill9()
        self.tell.event(f"daemon on {node.node} is dead (exit {node.returncode})")
        deleted_s: float = self._ask(self._timed(self._api.delete_service(name))).result(5.0)
        self.tell.event(f"Service default/{name} deleted", deleted_s)
        last = self._last_answer(vip, prober, timeout_s=KERNEL_SILENT_S)
        if last is not None:
            self.tell.event(f"last answer to the client's ARP requests: the dead-man's switch in {node.node}'s kernel ran out", last)
        address = next((address for address in node.marked_addresses() if address.ip == vip), None)
        if address is None:
            raise NotSeen(f"{vip} still on {node.node}, whose daemon is dead; seen: {self.bound()}")
        lifetime = "has no lifetime" if address.valid_s is None else f"drops it by itself in {address.valid_s} s"
        self.tell.event(f"no ARP answer for {SILENCE_S:g} s, though {vip} is still on {node.node}; the kernel {lifetime}")

    def restart(self, name: str, vip: str, node: NodeProcess, prober: Prober) -> None:
        """The daemon comes back and sweeps."""
        self.tell.step(f"Start the daemon on {node.node} again")
        self._told_of_change()
        node.start()
        _, swept_s = self.when_address(f"{vip} swept from {node.node}", lambda: self.holder_of(vip) is None)
        found = self._ask(self._api.wait_event(name, "VIPSwept", timeout_s=5.0)).result(10.0)
        happened = [(swept_s, f"{vip} swept from {node.node} (the start of the process included)")]
        happened.append((now_s(), f"seen by now: Event VIPSwept, {found['message']!r}"))
        for at_s, text in sorted(happened):
            self.tell.event(text, at_s)
        self._last_answer(vip, prober)
        self.nothing_left(vip)

    def run(self) -> None:
        """All steps in order."""
        self.start()
        with Sniffer(self._lan.ns(CLIENT), "eth0") as sniffer:
            self.tell.step("A Service of type LoadBalancer is created")
            self._vip = FIRST_VIP
            node = self.create("first", FIRST_VIP, sniffer)
            self.client_uses(FIRST_VIP, node)
            self.status("first", FIRST_VIP)
            with self._asking(FIRST_VIP) as prober:
                self._answered(FIRST_VIP, prober)
                self.tell.step("The Service is deleted")
                self.delete("first", FIRST_VIP, prober)
            self.tell.step("A second Service")
            self._vip = SECOND_VIP
            node = self.create("second", SECOND_VIP, sniffer)
            with self._asking(SECOND_VIP) as prober:
                self._answered(SECOND_VIP, prober)
                self.journalled("second", SECOND_VIP, node)
                self.crash("second", SECOND_VIP, node, prober)
                self.restart("second", SECOND_VIP, node, prober)

    def _answered(self, vip: str, prober: Prober) -> None:
        answer = prober.wait_answer(vip, timeout_s=2.0)
        if answer is None:
            raise NotSeen(f"an ARP answer for {vip}: not within 2 s; seen: {self.bound()}")
        self.tell.event(f"the client's ARP request for {vip} is answered by {answer.mac}", answer.at_s)

    @contextlib.contextmanager
    def _asking(self, vip: str) -> Iterator[Prober]:
        """The client asks for the VIP over and over."""
        with Prober(self._lan.ns(CLIENT), "eth0", [vip], interval_s=PROBE_S) as prober:
            self._prober = prober
            try:
                yield prober
            finally:
                self._prober = None

    def picture(self) -> Picture:
        """What can be observed now; called from a thread of its own."""
        return look(self._lan, self._nodes, vip=self._vip, prober=self._prober)
