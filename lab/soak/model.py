"""The words of the soak: operations, faults, violations, and the addresses that it plays with. Frozen data, no I/O."""

from __future__ import annotations

import http.client
import subprocess
from typing import Literal

import msgspec

from kvip.errors import KvipError
from lab.netns import LabError

FAILURES = (OSError, KvipError, LabError, http.client.HTTPException, subprocess.TimeoutExpired)
"""How the lab says that something could not be done: no answer, a refusal, a command that failed."""

LEASE_S, RENEW_S, RETRY_S = 5.0, 3.0, 1.0
LIFETIME_S = 60.0
"""valid_lft of an address up to 1,000 VIPs."""

NODES = ("n1", "n2", "n3")
LASTING_NODE = "n3"
"""Its daemon is frozen and cut off, but never ended, so that its memory can be judged over the whole run."""
VIPS = tuple(f"10.10.0.{number}" for number in range(200, 220))
VIPS6 = tuple(f"fd00:10::{number}" for number in range(200, 204))
FOREIGN_VIP = "10.10.0.223"
"""On every node without kvip's mark, put there by the soak; Services ask for it and must not get it."""
FOREIGN = ("10.10.0.240", FOREIGN_VIP)
FOREIGN6 = "fd00:10::240"
ALL_VIPS = (*VIPS, *VIPS6)
SLOTS = tuple(f"s{number:02d}" for number in range(18))
"""Names of Services."""

ServiceKind = Literal["create", "delete", "recreate", "move", "retype", "reclass", "ignore", "restore"]
FaultKind = Literal[
    "kill", "freeze", "cut", "term", "api_down", "stall", "swallow", "compact", "nic_down", "addr_del", "flush"
]  # fmt: skip
SERVICE_KINDS: tuple[ServiceKind, ...] = ("create", "delete", "recreate", "move", "retype", "reclass", "ignore", "restore")
FAULT_KINDS: tuple[FaultKind, ...] = (
    "kill", "freeze", "cut", "term", "api_down", "stall", "swallow", "compact", "nic_down", "addr_del", "flush",
)  # fmt: skip
EMBEDDED_ONLY: frozenset[FaultKind] = frozenset({"swallow", "compact"})
INSTANT: frozenset[FaultKind] = frozenset({"compact", "addr_del", "flush"})
"""Faults that are over as soon as they are done."""
API_WIDE: frozenset[FaultKind] = frozenset({"api_down", "stall", "compact"})
ENDING: frozenset[FaultKind] = frozenset({"kill", "term"})
"""Never on `LASTING_NODE`."""
DAEMON_OFF: frozenset[FaultKind] = frozenset({"kill", "freeze", "term"})
"""The daemon cannot run; at most one of them per node at a time."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do. A fault that lasts is one operation: it begins at `at_s` and ends `lasts_s` later."""

    at_s: float
    """Since its round began."""
    kind: ServiceKind | FaultKind
    node: str = ""
    """"" = the API server or every node."""
    busiest: bool = False
    """Instead of `node`, hit the node that has most VIPs bound at that moment, if this fault may hit it."""
    service: str = ""
    vips: tuple[str, ...] = ()
    lasts_s: float = 0.0

    def told(self) -> str:
        """One line without the time."""
        node = f"{self.node} or the busiest" if self.busiest else self.node
        lasts = f"for {self.lasts_s:.1f} s" if self.lasts_s else ""
        words = [self.kind, node, self.service, ",".join(self.vips), lasts]
        return " ".join(word for word in words if word)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Operations between two moments at which everything is healed and must converge."""

    number: int
    lasts_s: float
    operations: tuple[Operation, ...]


class Fault(msgspec.Struct, kw_only=True):
    """One fault that was injected. CLOCK_BOOTTIME seconds."""

    kind: FaultKind
    node: str
    vip: str = ""
    began_s: float
    """It is in force at the latest from here."""
    ending_s: float | None = None
    """Its end is under way: it is in force at least until here."""
    ended_s: float | None = None
    """It is over at the latest here."""

    def hits(self, node: str) -> bool:
        return self.node in ("", node)


class Violation(msgspec.Struct, kw_only=True):
    """A promise that was broken. The same about other VIPs, and repetitions, are counted, not listed."""

    invariant: str
    what: str
    vips: list[str] = []
    """Those that it happened to, the first one is in `what`."""
    at_s: float
    """Since the soak began; the first time."""
    details: list[str]
    """What was known about it the first time: who had it, the last frames, the last operations."""
    count: int = 1
    last_s: float = 0.0
