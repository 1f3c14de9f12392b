"""The soak itself: a LAN, an API server, three daemons; rounds of operations; healing and convergence; the verdict.

In: `Settings`. Out: a `Result`. Every process, namespace and bridge is gone when it returns or raises. Runs in a network
namespace of its own (`lab.netns.require_private_namespace`).
"""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from kvip.kube.connector import CONNECTION_LIMIT
from lab.apihost import ApiHost
from lab.cluster import SERVICES, Cluster, now
from lab.embeddedapi import EmbeddedApi
from lab.lan import API_IP, Lan
from lab.realapi import RealApi
from lab.soak.checker import Checker, Violations
from lab.soak.claims import Claims
from lab.soak.model import FAILURES, FOREIGN, FOREIGN6, NODES, FaultKind, Round
from lab.soak.operate import Operator
from lab.soak.plan import make_plan
from lab.soak.report import Life, Result
from lab.soak.settle import differences, status_differences
from lab.soak.watch import Usage, Watch
from lab.soak.world import World

CONVERGE_S = 25.0
"""After everything is healed: a start, a lease that runs out, a resync."""
STEADY_S = 0.5
"""It must stay converged for that long."""
FLAT_AFTER_S = 150.0
"""Memory is judged for daemons that lived longer than that, against what they used after `WARM_S`."""
WARM_S = 60.0
RSS_GROWTH = 1.25
RSS_SLACK_MIB = 8.0
FDS_SLACK = 8
CONNECTIONS_MOST = CONNECTION_LIMIT + 8
"""The pool of connections to the API server is bounded; beside it, whoever reads metrics."""
TASKS_SLACK = 24
"""Requests that are under way in the instant of the measurement."""
MEASURE_S = 5.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One soak."""

    seed: int
    seconds: float
    api: str = "embedded"
    env: Mapping[str, str] = {}
    """Settings for the daemons."""
    kinds: tuple[FaultKind, ...] = ()
    """Only these faults; empty = all."""
    stop_at_first: bool = False
    """End at the first violation."""
    work_dir: pathlib.Path


class _Enough(Exception):
    """The first violation was found, and it is to end the soak."""


class Soak:
    """One run; `run` does it all."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self.world = World(now())
        self.violations = Violations(self.world, self._context)
        self.checker = Checker(self.world, self.violations, node_of={cluster.lan.mac(node): node for node in cluster.nodes})
        self.claims = Claims(self.world, self.violations, seen_bound_s=self.checker.seen_bound_s)
        self.operator = Operator(cluster, self.world, watchful=self._watchful)
        self.converged_s: list[float] = []
        self._lives: dict[int, tuple[str, float, Usage, Usage, float]] = {}
        self._measured_s = 0.0
        self._watch: Watch | None = None

    def run(self) -> None:
        """Start the daemons, run the plan."""
        kinds = {"kinds": self._settings.kinds} if self._settings.kinds else {}
        plan = make_plan(self._settings.seed, self._settings.seconds, embedded=self._settings.api == "embedded", **kinds)
        for node in self._cluster.nodes:
            for ip in FOREIGN:
                self._cluster.lan.run(node, "ip", "addr", "add", f"{ip}/32", "dev", "eth0")
            self._cluster.lan.run(node, "ip", "addr", "add", f"{FOREIGN6}/128", "dev", "lo")
        self._cluster.register_nodes()
        self._cluster.start()
        with Watch(self._cluster, self.world, self.checker, self.claims) as watch, contextlib.suppress(_Enough):
            self._watch = watch
            for rnd in plan:
                self._round(rnd)
            self._end()

    def _round(self, rnd: Round) -> None:
        self.operator.run(rnd)
        self.operator.heal()
        self._converge(f"after round {rnd.number}")

    def _end(self) -> None:
        """Delete every Service: nothing may be left anywhere."""
        for name in sorted({name for names in self.world.living().values() for name in names}):
            self.world.changing(name, ())
            self._cluster.delete(name)
            self.world.settled(name, (), at_s=now())
        self._converge("after the end")

    def _converge(self, when: str) -> None:
        began_s = good_s = now()
        found = ["not looked yet"]
        while now() - good_s < STEADY_S or found:
            self._watchful()
            time.sleep(0.1)
            found = self._differences()
            if found:
                good_s = now()
            if now() - began_s > CONVERGE_S:
                self.violations.add("I3", f"not converged {CONVERGE_S:g} s {when}", at_s=now(), details=found)
                break
        else:
            self.converged_s.append(good_s - began_s)
        if self._watch is not None:
            self._watch.read_events()

    def _differences(self) -> list[str]:
        found = differences(living=self.world.living(), bound=self.checker.bound, holders=self.checker.holders, now_s=now())
        if not found:
            with contextlib.suppress(*FAILURES):
                return status_differences(self._cluster.request("GET", SERVICES)["items"])
            return ["the API server does not answer"]
        return found

    # -- called between operations -------------------------------------------------------------------------------------------

    def _watchful(self) -> None:
        if self._watch is not None:
            self._watch.check()
        if self._settings.stop_at_first and self.violations.found:
            raise _Enough
        for problem in self.operator.problems:
            self.violations.add("stop", problem, at_s=now())
        self.operator.problems.clear()
        if now() - self._measured_s >= MEASURE_S:
            self._measured_s = now()
            self._measure()

    def _measure(self) -> None:
        for name, node in self._cluster.nodes.items():
            if not node.running:
                off = {fault.kind for fault in self.world.in_force(name)} & {"kill", "term"}
                if not off:
                    self.violations.add("alive", f"the daemon of {name} ended by itself with {node.returncode}", at_s=now())
                    node.start()
                continue
            if any(fault.kind == "freeze" for fault in self.world.in_force(name)):
                continue
            with contextlib.suppress(OSError, KeyError, ValueError, *FAILURES):  # it may end while it is looked at
                usage, at_s = Usage(node.pid, tasks=int(node.metrics()["kvip_tasks"])), now()
                _, born_s, first, _, _ = self._lives.get(node.pid, (name, at_s, usage, usage, at_s))
                first = usage if at_s - born_s < WARM_S else first
                self._lives[node.pid] = (name, born_s, first, usage, at_s)

    def _context(self) -> list[str]:
        return ["the last operations:", *list(self.operator.last)]

    # -- the verdict ---------------------------------------------------------------------------------------------------------

    def result(self) -> Result:
        """Judge memory and give everything away."""
        lives = [
            Life(
                node=name, pid=first.pid, age_s=at_s - born_s, rss_mib=(first.rss_mib, last.rss_mib), fds=(first.fds, last.fds),
                connections=(first.connections, last.connections), threads=(first.threads, last.threads), tasks=(first.tasks, last.tasks),
                cpu_s=last.cpu_s,
            )
            for name, born_s, first, last, at_s in self._lives.values()
            if at_s - born_s > 2 * MEASURE_S
        ]  # fmt: skip
        for life in lives:
            more = (
                life.fds[1] > life.fds[0] + FDS_SLACK
                or life.connections[1] > CONNECTIONS_MOST
                or life.tasks[1] > life.tasks[0] + TASKS_SLACK
            )
            if life.age_s > FLAT_AFTER_S and (more or life.rss_mib[1] > life.rss_mib[0] * RSS_GROWTH + RSS_SLACK_MIB):
                self.violations.add("flat", f"the daemon of {life.node} grew: {life}", at_s=now())
        return Result(
            seed=self._settings.seed,
            seconds=self._settings.seconds,
            api=self._settings.api,
            settings=self._settings.env,
            took_s=now() - self.world.began_s,
            done=self.operator.done,
            skipped=self.operator.skipped,
            failed=self.operator.failed,
            two_answers_s=sum(self.checker.two_answers_s.values()),
            left_over=tuple(sorted(self.checker.left_over)),
            silences=self.checker.silence.rows,
            converged_s=tuple(self.converged_s),
            violations=tuple(self.violations.found),
            lives=tuple(sorted(lives, key=lambda life: -life.age_s)[:6]),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        if self._watch is not None:
            watch = self._watch
            lost = f", {watch.tap.lost} lost" if watch.tap.lost else ""
            yield f"{watch.frames} frames{lost}, {watch.dumps} dumps, {self.claims.judged} statements judged"
            yield f"the longest the checker did not look: {watch.longest_look_s:.2f} s"
        for name, node in self._cluster.nodes.items():
            lines = node.logs()
            errors = Counter(str(line.get("msg", line.get("unparsed", "")))[:160] for line in lines if _is_error(line))
            for message, count in errors.most_common(8):
                yield f"{name} logged {count} times: {message}"


def _is_error(line: Mapping[str, object]) -> bool:
    return "unparsed" in line or str(line.get("level", "")).lower() in ("error", "critical")


def run(settings: Settings) -> Result:
    """One soak, from nothing to nothing. Errors: KvipError, LabError when the lab itself failed."""
    with Lan(len(NODES)) as lan, _api(settings.api) as api:
        cluster = Cluster(lan, api, work_dir=settings.work_dir, nodes=NODES, env=settings.env)
        try:
            soak = Soak(settings, cluster)
            try:
                soak.run()
            except FAILURES as failure:
                soak.violations.add("lab", f"the soak could not go on: {failure}", at_s=now())
            return soak.result()
        finally:
            cluster.stop()


@contextlib.contextmanager
def _api(kind: str) -> Iterator[ApiHost]:
    if kind == "real":
        with RealApi(API_IP) as real:
            yield real
    else:
        with EmbeddedApi(API_IP) as embedded:
            yield embedded
