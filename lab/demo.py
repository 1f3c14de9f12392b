"""`python -m lab.demo`: kvip's main job on a LAN in namespaces, told with measured times.

In: nothing; started anywhere, it re-executes itself in a network namespace of its own (root, or a user namespace). Out: a narration on
stdout: a Service's VIP from bound to gone, then a Service that is deleted while the daemon is dead. Exit code 0 when every step
happened, 1 with what was seen instead. A time is that since the step began: wire times are the kernel's receive times, states are
polled each millisecond.

Must not: state what was not observed, touch the host's network, or leave files or processes behind (a failed run's files are kept and named).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

from kvip.core.model import MARK_PROTO, Address
from kvip.errors import KvipError
from lab import preflight
from lab.embeddedapi import EmbeddedApi
from lab.kubeapi import KubeApi
from lab.lan import API_IP, CLIENT, CLIENT_IP, Lan, node_ip
from lab.netns import LabError, require_private_namespace
from lab.node import NodeProcess
from lab.prober import Prober
from lab.sniffer import Sniffer

T = TypeVar("T")

FIRST_VIP, SECOND_VIP = "10.10.0.200", "10.10.0.201"
POLL_S = 0.001
SILENCE_S = 0.5
"""How long nobody answers before the demo says so."""
LOG_LINES = 12


class NotSeen(Exception):
    """A step did not happen: the message says which, and what was seen instead."""


def now_s() -> float:
    """CLOCK_BOOTTIME, as sniffer and prober."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Narration:
    """Plain lines: numbered steps, below each what happened after how many ms."""

    def __init__(self) -> None:
        self.began_s = now_s()
        self._steps = 0
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def line(self, text: str = "", *, style: str = "") -> None:
        print(f"\033[{style}m{text}\033[0m" if style and self._colour else text, flush=True)

    def step(self, title: str) -> None:
        """Begin a step: times count from here."""
        self._steps += 1
        self.line(f"\n{self._steps}. {title}", style="1")
        self.began_s = now_s()

    def event(self, text: str, at_s: float | None = None) -> None:
        """What happened, at `at_s` (CLOCK_BOOTTIME), now if not given."""
        elapsed_s = (now_s() if at_s is None else at_s) - self.began_s
        self.line(f"{elapsed_s * 1000:10.1f} ms  {text}")

    def detail(self, text: str) -> None:
        """More about the line above."""
        self.line(f"{'':15}{text}")


class Demo:
    """The steps. `api` is used from one thread of its own, so that a state can be watched while a request is under way."""

    def __init__(self, lan: Lan, api: KubeApi, nodes: list[NodeProcess], ask: Callable[[Coroutine[Any, Any, Any]], Future[Any]]) -> None:
        self.tell = Narration()
        self._lan = lan
        self._api = api
        self._nodes = nodes
        self._ask = ask

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

    def bound(self) -> str:
        """Every marked address on every node, as text."""
        return ", ".join(f"{node.node} ({'runs' if node.running else 'dead'}) has {node.vips() or 'no VIP'}" for node in self._nodes)

    def holder_of(self, vip: str) -> tuple[NodeProcess, Address] | None:
        """The node that has the VIP with kvip's mark."""
        return next(((node, address) for node in self._nodes for address in node.marked_addresses() if address.ip == vip), None)

    def start(self) -> None:
        """Daemons up, one of them holds the lease."""
        self.tell.step("Start `kvip manager` on n1 and n2 (lease 5 s, renew deadline 3 s, retry period 1 s)")
        for node in self._nodes:
            node.start()
        for node in self._nodes:
            node.wait_ready(10.0)
            self.tell.event(f"{node.node} ready (pid {node.pid}, {node_ip(node.node)}, MAC {self._lan.mac(node.node)})")
        leader = self.until("one node holds the lease", self._leader, deadline_s=8.0, seen=self._lease)
        self.tell.event(f"{leader.node} holds the lease: {self._lease()}")

    def _leader(self) -> NodeProcess | None:
        holding = [node for node in self._nodes if node.metrics().get("kvip_lease_holding") == 1]
        return holding[0] if len(holding) == 1 else None

    def _lease(self) -> str:
        leases = self._ask(self._api.leases()).result(5.0)
        return (
            ", ".join(f"{name} held by {lease['spec'].get('holderIdentity') or 'nobody'}" for name, lease in leases.items()) or "no Lease"
        )

    def create(self, name: str, vip: str, sniffer: Sniffer) -> NodeProcess:
        """A Service asks for `vip`: bound, announced. Returns the holder."""
        began_s = self.tell.began_s
        request = self._ask(self._timed(self._api.create_service(name, addresses=[vip])))
        node, address = self.until(f"{vip} bound on a node", lambda: self.holder_of(vip), deadline_s=3.0)
        bound_s = now_s()
        self.tell.event(f"Service default/{name} created, asks for {vip}", request.result(5.0))
        lifetime = "for ever" if address.valid_s is None else f"for {address.valid_s} s unless refreshed"
        self.tell.event(f"bound on {node.node}: {vip}/{address.prefix_len}, mark {address.proto:#x}, valid {lifetime}", bound_s)
        if address.proto != MARK_PROTO or address.prefix_len != 32:
            raise NotSeen(f"{vip} as /32 with mark {MARK_PROTO:#x}; seen: {address}")
        frame = sniffer.wait_for(lambda frame: frame.announcement and frame.claimed == vip and frame.at_s >= began_s, 3.0)
        if frame is None:
            raise NotSeen(f"a gratuitous ARP for {vip} on the client's wire: not within 3 s; seen: {self.bound()}")
        kind = {1: "request", 2: "reply"}.get(frame.op, str(frame.op))
        self.tell.event(f"first gratuitous ARP received by the client: ARP {kind}, {frame.sender_ip} is at {frame.sender_mac}", frame.at_s)
        self.tell.detail(
            f"ethernet {frame.eth_src} > {frame.eth_dst}, target {frame.target_ip} ({frame.target_mac}), {len(frame.raw)} bytes"
        )
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

    def event_seen(self, name: str, reason: str) -> None:
        """The Event is in the API."""
        found = self._ask(self._api.wait_event(name, reason, timeout_s=5.0)).result(10.0)
        self.tell.event(f"Event {reason}: {found['message']}")

    def delete(self, name: str) -> None:
        """Delete the Service; returns when the API server has answered."""
        self._ask(self._timed(self._api.delete_service(name))).result(5.0)
        self.tell.event(f"Service default/{name} deleted")

    def gone(self, vip: str, prober: Prober) -> None:
        """The VIP is on no node, and nobody answers for it."""
        self.until(f"{vip} off every node", lambda: self.holder_of(vip) is None, deadline_s=3.0)
        self.tell.event(f"{vip} is on no node any more")
        silent = prober.wait_silent(vip, for_s=SILENCE_S, timeout_s=3.0)
        report = prober.report(vip)
        last = report.last_answer
        if not silent:
            raise NotSeen(f"no ARP answer for {vip} over {SILENCE_S:g} s; seen: answers by {sorted(report.macs)}, {self.bound()}")
        if last is not None:
            self.tell.event("last ARP answer received by the client", last.at_s)
        self.tell.detail(f"then {SILENCE_S:g} s of ARP requests every 20 ms without an answer")
        self.nothing_left(vip)

    def nothing_left(self, vip: str) -> None:
        """No marked address, no route to the VIP and no nf_tables element naming it, on any node."""
        left = [f"{node.node}: address {ip}" for node in self._nodes for ip in node.vips()]
        for name in self._lan.nodes:
            for command in (["ip", "-4", "addr"], ["ip", "-4", "route", "show", "table", "all"], ["nft", "list", "ruleset"]):
                printed = self._lan.run(name, *command).stdout.splitlines()
                left += [f"{name}: {line.strip()} ({' '.join(command)})" for line in printed if vip in line.replace("/", " ").split()]
        if left:
            raise NotSeen(f"nothing left on any node; seen: {'; '.join(left)}")
        self.tell.event("checked on n1 and n2: no marked address, no address or route for the VIP, no nf_tables rule naming it")

    def crash(self, name: str, vip: str, node: NodeProcess, prober: Prober) -> None:
        """The holder's daemon is killed and the Service deleted meanwhile: what the kernel does on its own."""
        self.tell.step(f"kill -9 of the daemon on {node.node}, and the Service is deleted while it is dead")
        node.kill9()
        self.tell.event(f"daemon on {node.node} is dead (exit {node.returncode})")
        self.delete(name)
        deleted_s = now_s()
        time.sleep(1.0)
        address = next((address for address in node.marked_addresses() if address.ip == vip), None)
        if address is None:
            raise NotSeen(f"{vip} still on {node.node}, whose daemon is dead; seen: {self.bound()}")
        lifetime = "has no lifetime" if address.valid_s is None else f"drops it by itself in {address.valid_s} s"
        self.tell.event(f"{vip} is still on {node.node}: nobody is there to remove it; the kernel {lifetime}")
        last = prober.report(vip).last_answer
        if last is not None and last.at_s > deleted_s + 0.5:
            self.tell.detail(f"and until then the kernel goes on answering ARP for it, with {last.mac}, or until the daemon is back")
        else:
            self.tell.detail("it does not answer ARP for it")

    def restart(self, name: str, vip: str, node: NodeProcess, prober: Prober) -> None:
        """The daemon comes back and sweeps."""
        self.tell.step(f"Start the daemon on {node.node} again")
        node.start()
        self.until(f"{vip} swept from {node.node}", lambda: self.holder_of(vip) is None, deadline_s=5.0)
        self.tell.event(f"{vip} swept from {node.node} (time includes the start of the process)")
        self.event_seen(name, "VIPSwept")
        self.gone(vip, prober)

    def run(self) -> None:
        """All steps in order."""
        self.start()
        with Sniffer(self._lan.ns(CLIENT), "eth0") as sniffer:
            self.tell.step("A Service of type LoadBalancer is created")
            node = self.create("first", FIRST_VIP, sniffer)
            self.client_uses(FIRST_VIP, node)
            self.status("first", FIRST_VIP)
            with Prober(self._lan.ns(CLIENT), "eth0", [FIRST_VIP]) as prober:
                self._answered(FIRST_VIP, prober)
                self.tell.step("The Service is deleted")
                self.delete("first")
                self.gone(FIRST_VIP, prober)
            self.tell.step("A second Service")
            node = self.create("second", SECOND_VIP, sniffer)
            with Prober(self._lan.ns(CLIENT), "eth0", [SECOND_VIP]) as prober:
                self._answered(SECOND_VIP, prober)
                self.crash("second", SECOND_VIP, node, prober)
                self.restart("second", SECOND_VIP, node, prober)

    def _answered(self, vip: str, prober: Prober) -> None:
        answer = prober.wait_answer(vip, timeout_s=2.0)
        if answer is None:
            raise NotSeen(f"an ARP answer for {vip}: not within 2 s; seen: {self.bound()}")
        self.tell.event(f"the client's ARP request for {vip} is answered by {answer.mac}", answer.at_s)


@contextlib.contextmanager
def _api_thread(url: str, token: str) -> Iterator[tuple[KubeApi, Callable[[Coroutine[Any, Any, Any]], Future[Any]]]]:
    """A client of the API server and a function that runs its coroutines, one after the other, in a thread."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1, thread_name_prefix="api") as pool:
        api = KubeApi(url, token)
        pool.submit(runner.run, api.__aenter__()).result(5.0)
        try:
            yield api, lambda request: pool.submit(runner.run, request)
        finally:
            pool.submit(runner.run, api.__aexit__(None, None, None)).result(5.0)


def demo(work: pathlib.Path) -> int:
    """Build the LAN, run the steps; the exit code. Files go to `work`."""
    tell = Narration()
    tell.line("kvip demo: a LAN of network namespaces with nodes n1, n2 and a client, an embedded Kubernetes API server", style="1")
    tell.line("times: ms since the step began, measured")
    nodes: list[NodeProcess] = []
    try:
        with Lan(2) as lan, EmbeddedApi(API_IP) as server, contextlib.ExitStack() as undo:
            tell.event("LAN up, API server listens")
            nodes = [NodeProcess(lan, name, kubeconfig=server.kvip_kubeconfig, work_dir=work) for name in lan.nodes]
            for node in nodes:
                undo.callback(node.close)
            with _api_thread(server.url, server.admin_token) as (api, ask):
                Demo(lan, api, nodes, ask).run()
    except (NotSeen, KvipError, LabError, AssertionError, OSError, TimeoutError) as failure:
        tell.line(f"\nFAILED  {failure}", style="1;31")
        for node in nodes:
            lines = node.log_path.read_text(errors="replace").splitlines()[-LOG_LINES:] if node.log_path.exists() else []
            tell.line("\n".join([f"\n--- last log lines of {node.node} ({node.log_path})", *lines]))
        return 1
    tell.line(f"\nOK: every step happened ({now_s() - tell.began_s:.1f} s in all)", style="1;32")
    return 0


def _reexecute() -> NoReturn:
    """Become this program in a network namespace of its own, or say what is missing (exit 1)."""
    code, line = preflight.verdict(preflight.look())
    if code:
        sys.exit(line)
    found = preflight.namespaces()
    if found.command is None:
        sys.exit(found.reason)
    root = str(pathlib.Path(__file__).resolve().parent.parent)
    os.environ["PATH"] = preflight.search_path()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    os.execvp(found.command[0], [*found.command, sys.executable, "-m", "lab.demo", "--here"])


def main() -> int:
    """Get a namespace, run, clean up."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description="Shows kvip's main job on a LAN of network namespaces.")
    parser.add_argument("--here", action="store_true", help="in the current network namespace (the host's is refused)")
    if not parser.parse_args().here:
        _reexecute()
    try:
        require_private_namespace()
    except LabError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so that no daemon is left
    work = pathlib.Path(tempfile.mkdtemp(prefix="kvip-demo-"))
    tempfile.tempdir = str(work)  # the API server's directory too
    code = 130  # what a shell reports for SIGINT
    try:
        code = demo(work)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        if code == 1:
            print(f"\nthe daemons' state and logs are kept in {work}", flush=True)
        else:
            shutil.rmtree(work, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
