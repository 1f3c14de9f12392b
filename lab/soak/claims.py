"""Invariant I7: status.ingress and Events name only VIPs that were really bound.

In: Services and Events as the API server has them, what was seen bound and when, and the `World`. Out: violations. Judged a
moment after it was read, so that what the kernel confirmed just before has been seen. It must not ask the API server itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from lab.admin import Json
from lab.soak.checker import Violations
from lab.soak.world import World

JUDGE_AFTER_S = 0.5
_BOUND = re.compile(r"^(?P<vip>[0-9a-f.:]+) is bound and announced on (?P<node>\S+) ")


class _Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody says that a VIP was bound for a Service."""

    read_s: float
    service: str
    uid: str
    vip: str
    node: str
    """"" = does not say."""
    where: str


class Claims:
    """Keeps statements until they can be judged."""

    def __init__(self, world: World, violations: Violations, *, seen_bound_s: Mapping[tuple[str, str], float]) -> None:
        """`seen_bound_s`: (node, VIP) -> when it was last announced or may last have been bound."""
        self.judged = 0
        self._world = world
        self._violations = violations
        self._seen_bound_s = seen_bound_s
        self._waiting: list[_Statement] = []
        self._events: set[str] = set()

    def services(self, items: Iterable[Json], *, at_s: float) -> None:
        """All Services, read at `at_s`."""
        for item in items:
            for vip in ingress_of(item):
                self._state(item["metadata"]["name"], item["metadata"]["uid"], vip, at_s=at_s, where="status.ingress")

    def events(self, items: Iterable[Json], *, at_s: float) -> None:
        """Events; those read before are left out."""
        for item in items:
            key = str(item["metadata"]["uid"])
            found = _BOUND.match(str(item.get("message", "")))
            if key in self._events or item.get("reason") != "VIPBound":
                continue
            self._events.add(key)
            about = item["involvedObject"]
            if found is None:
                self._violations.add("I7", f"the Event {item.get('message')!r} cannot be read", at_s=at_s)
            else:
                self._state(about["name"], about["uid"], found["vip"], node=found["node"], at_s=at_s, where="Event VIPBound")

    def _state(self, service: str, uid: str, vip: str, *, at_s: float, where: str, node: str = "") -> None:
        self._waiting.append(_Statement(read_s=at_s, service=service, uid=uid, vip=vip, node=node, where=where))

    def judge(self, now_s: float) -> None:
        """Judge what was read long enough ago."""
        due = [statement for statement in self._waiting if now_s - statement.read_s >= JUDGE_AFTER_S]
        self._waiting = [statement for statement in self._waiting if now_s - statement.read_s < JUDGE_AFTER_S]
        for statement in due:
            self.judged += 1
            asked_s = self._world.asked_s.get((statement.uid, statement.vip))
            about = f"{statement.where} of {statement.service} names {statement.vip}{' on ' + statement.node if statement.node else ''}"
            if asked_s is None:
                self._violations.add("I7", f"{about}, which it never asked for", at_s=statement.read_s)
                continue
            nodes = [statement.node] if statement.node else {node for node, vip in self._seen_bound_s if vip == statement.vip}
            if not any(self._seen_bound_s.get((node, statement.vip), 0.0) >= asked_s for node in nodes):
                self._violations.add("I7", f"{about}, which was not bound since the Service asked for it", at_s=statement.read_s)


def ingress_of(service: Json) -> list[str]:
    """The addresses in status.loadBalancer.ingress."""
    return [entry["ip"] for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or [] if "ip" in entry]
