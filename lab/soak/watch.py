"""Looks every 100 ms: the client's wire, the addresses of every node's kernel, and now and then what the API server says.

In: a `Cluster` and the judges. Out: a thread that feeds them until stopped. It must not judge, and not write to the API server.
The prober asks, the tap hears both questions and answers, in order, with the kernel's receive time.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading

from kvip.errors import KvipError
from kvip.kernel.batches import AddressSocket
from lab.cluster import SERVICES, Cluster, now
from lab.lan import CLIENT
from lab.prober import Prober
from lab.sniffer import Frame, Sniffer
from lab.soak.checker import Checker
from lab.soak.claims import Claims
from lab.soak.model import ALL_VIPS, FAILURES
from lab.soak.world import World

LOOK_S = 0.1
ASK_S = 0.03
STATUS_S = 2.0
PRUNE_S = 30.0
EVENTS = "/api/v1/namespaces/default/events"


class WireTap(Sniffer):
    """A sniffer whose frames are taken away, so that it can run for hours."""

    def take(self) -> list[Frame]:
        """What was recorded since the last call."""
        self.check()
        with self.changed:
            found, self._frames = self._frames, []
        return found


class Watch:
    """The thread; a context manager. `check` raises what ended it."""

    def __init__(self, cluster: Cluster, world: World, checker: Checker, claims: Claims) -> None:
        self.dumps = self.dumps_failed = self.frames = 0
        self.longest_look_s = 0.0
        """The longest time between two looks: how much the machine let the checker wait."""
        self._cluster = cluster
        self._world = world
        self._checker = checker
        self._claims = claims
        client = cluster.lan.ns(CLIENT)
        self._open = contextlib.ExitStack()
        self.tap = WireTap(client, "eth0", vips=ALL_VIPS)
        self._open.enter_context(self.tap)
        self.prober = self._open.enter_context(Prober(client, "eth0", ALL_VIPS, interval_s=ASK_S))
        self._kernels = {name: self._open.enter_context(cluster.lan.ns(name).call(AddressSocket)) for name in cluster.nodes}
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="soak watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join(10.0)
        self._open.close()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            looked_s = status_s = pruned_s = now()
            while not self._ended.wait(max(0.0, looked_s + LOOK_S - now())):
                self.longest_look_s = max(self.longest_look_s, now() - looked_s)
                looked_s = now()
                self._look(looked_s)
                if looked_s - status_s >= STATUS_S:
                    status_s = looked_s
                    self._statuses()
                if looked_s - pruned_s >= PRUNE_S:
                    pruned_s = looked_s
                    self._world.prune(looked_s)
        except BaseException as failure:  # raised again in the thread of the soak
            self._failure = failure

    def _look(self, at_s: float) -> None:
        frames = self.tap.take()
        self.frames += len(frames)
        self._checker.frames(frames)
        for vip in ALL_VIPS:
            self._checker.two_answers(vip, self.prober.report(vip).two_answers_s, now_s=at_s)
        for node, kernel in self._kernels.items():
            try:
                self._checker.kernel(node, kernel.dump(), at_s=at_s)
                self.dumps += 1
            except KvipError:  # interrupted by changes: the next look, 100 ms later, tells
                self.dumps_failed += 1
        self._checker.look(at_s)
        self._claims.judge(at_s)

    def _statuses(self) -> None:
        if any(fault.kind in ("api_down", "stall") for fault in self._world.in_force("")):
            return
        with contextlib.suppress(*FAILURES):
            at_s = now()
            self._claims.services(self._cluster.request("GET", SERVICES)["items"], at_s=at_s)

    def read_events(self) -> None:
        """Read all Events; called from outside, when everything is calm."""
        self._claims.events(self._cluster.request("GET", EVENTS)["items"], at_s=now())


class Usage:
    """What one daemon uses, from /proc; and how many asyncio tasks it has, by its own word."""

    def __init__(self, pid: int, *, tasks: int) -> None:
        root = pathlib.Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines() if ":" in line)
        self.pid = pid
        self.tasks = tasks
        self.rss_mib = int(status["VmRSS"].split()[0]) / 1024
        self.threads = int(status["Threads"])
        held = {os.readlink(entry) for entry in (root / "fd").iterdir()}
        # proc_pid_net(5): inode of each TCP socket of the namespace.
        tcp = {f"socket:[{line.split()[9]}]" for name in ("tcp", "tcp6") for line in (root / "net" / name).read_text().splitlines()[1:]}
        self.connections = len(held & tcp)
        """With the API server, and who reads metrics. A few requests a second keep open what a burst needed (aiohttp uses them in turn)."""
        self.fds = len(held - tcp)
        self.cpu_s = sum(map(int, (root / "stat").read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
