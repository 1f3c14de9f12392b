"""What is broken on purpose, and a count of what was asked.

Inputs: settings by `PUT /_lab/faults`. Outputs: answers to "is this client stalled, refused, kept in the dark". Faults are
kept per client (source address) and for everyone; a client is hit by either. Knows nothing of objects.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import msgspec

from lab.apiserver.store import EVERYONE


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers requests with an error."""

    code: int
    """HTTP status; 0 = cut the connection instead of answering."""
    verb: str = ""
    """HTTP method, "" = any. A watch is a GET."""
    path_regex: str = ""
    """Searched in path?query."""
    count: int | None = None
    """How many requests are hit, None = all until the rule is replaced."""
    apply: bool = False
    """Carry the request out before answering with the error: a write that happened and was not confirmed."""


class FaultSet(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The lasting faults of one client, or of everyone."""

    stall: bool = False
    """Accept and do not answer; watches fall silent. When it ends, what still waits is carried out, as after SIGCONT."""
    swallow_events: bool = False
    """Watches are never told of what is written meanwhile; a List shows it."""
    fail_put: bool = False
    """Every PUT is answered with 500 and not carried out."""
    delay_s: float = 0.0
    """Seconds before each request is looked at."""
    no_watchlist: bool = False
    """sendInitialEvents is refused with 422, as by a server whose WatchList gate is off."""
    http_410: bool = False
    """A watch from forgotten history is answered with HTTP 410 instead of 200 and an ERROR event."""
    status: Rule | None = None


class FaultRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `PUT /_lab/faults`: only what is named changes. `drop_watches` and `compact` happen once."""

    client: str = EVERYONE
    """Source address to limit these faults to; "" = everyone."""
    stall: bool | msgspec.UnsetType = msgspec.UNSET
    swallow_events: bool | msgspec.UnsetType = msgspec.UNSET
    fail_put: bool | msgspec.UnsetType = msgspec.UNSET
    delay_s: float | msgspec.UnsetType = msgspec.UNSET
    no_watchlist: bool | msgspec.UnsetType = msgspec.UNSET
    http_410: bool | msgspec.UnsetType = msgspec.UNSET
    status: Rule | msgspec.UnsetType | None = msgspec.UNSET
    drop_watches: bool = False
    compact: bool = False


class Faults:
    """All faults in force, and the log of requests."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str, int]] = Counter()
        self._sets: dict[str, FaultSet] = {}
        self._changed = asyncio.Event()

    def change(self, request: FaultRequest) -> None:
        """Set what `request` names. Errors: ValueError for a bad regular expression; then nothing changes."""
        try:
            re.compile(request.status.path_regex if request.status else "")
        except re.error as error:
            raise ValueError(f"status.path_regex: {error}") from error
        faults = self._sets.setdefault(request.client, FaultSet())
        for field in FaultSet.__struct_fields__:
            value = getattr(request, field)
            if value is not msgspec.UNSET:
                setattr(faults, field, value)
        self._wake()

    def clear(self) -> None:
        """No faults, an empty log."""
        self._sets.clear()
        self._requests.clear()
        self._wake()

    def count(self, client: str, verb: str, resource: str, code: int) -> None:
        """Note one request. Verbs: GET LIST WATCH POST PUT PATCH DELETE; code 0 = not answered."""
        self._requests[(client, verb, resource, code)] += 1

    def counts(self) -> list[dict[str, str | int]]:
        """How often each (client, verb, resource, code) happened."""
        rows = sorted(self._requests.items())
        return [{"client": row[0], "verb": row[1], "resource": row[2], "code": row[3], "count": count} for row, count in rows]

    def in_force(self) -> dict[str, FaultSet]:
        """The faults by client, "" = everyone."""
        return dict(self._sets)

    def on(self, client: str, field: str) -> bool:
        """True when the switch `field` is on for this client."""
        return any(getattr(faults, field) for faults in self._of(client))

    def hidden_from(self) -> frozenset[str]:
        """The clients whose events are swallowed now."""
        return frozenset(client for client, faults in self._sets.items() if faults.swallow_events)

    async def gate(self, client: str) -> None:
        """Wait as long as this client's requests are to wait."""
        delay_s = max((faults.delay_s for faults in self._of(client)), default=0.0)
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        await self.until_awake(client)

    async def until_awake(self, client: str) -> None:
        """Wait while this client is stalled."""
        while self.on(client, "stall"):
            await self._changed.wait()

    def take_rule(self, client: str, method: str, path: str) -> Rule | None:
        """The rule that hits this request, counted down."""
        for faults in self._of(client):
            rule = faults.status
            if rule is None or (rule.verb and rule.verb != method) or not re.search(rule.path_regex, path):
                continue
            if rule.count is not None:
                faults.status = msgspec.structs.replace(rule, count=rule.count - 1) if rule.count > 1 else None
            return rule
        if method == "PUT" and self.on(client, "fail_put"):
            return Rule(code=500, verb="PUT")
        return None

    def _of(self, client: str) -> list[FaultSet]:
        return [self._sets[key] for key in (client, EVERYONE) if key in self._sets]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
