"""The table of service security in the kernel: replaced as a whole, read back, looked at, removed.

In: `Rules`. Out: the kernel has them, acknowledged and read back, or a `SwitchError`. It decides nothing and keeps no VIP: a call of
`apply` is all or nothing. Only one may run at a time.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kvip.core.service_rules import FAMILY, TABLE, Rules, compile_rules, sample
from kvip.errors import SwitchError
from kvip.kernel.nft_child import load_json
from kvip.kernel.nft_tables import Tables


class _Seen(NamedTuple):
    """What the kernel shows of the table."""

    objects: frozenset[bytes]
    elements: dict[str, frozenset[bytes]]


class ServiceRules:
    """The table of one network namespace (that of the thread that makes it). One owner; `close()` it."""

    def __init__(self) -> None:
        """Raises SwitchError when the kernel gives no nf_tables socket."""
        self._tables = Tables(TABLE, (FAMILY,), what="service security")
        self._rules: Rules | None = None
        self._seen: _Seen | None = None
        self._intact_at = -1
        self._children: deque[int] = deque(maxlen=4)
        self._starting = False
        self._unknown: set[int] = set()

    @staticmethod
    async def require() -> None:
        """Raises SwitchError that says why nft(8) or the kernel would not take such rules. Changes nothing."""
        await load_json(compile_rules(sample(), nics=("lo",)).document, check_only=True)

    async def apply(self, rules: Rules) -> None:
        """Replace what is there, in one transaction of an `nft` child, and read it back.

        Raises SwitchError; `intact` then tells whether what was applied before is still there.
        """
        self._starting = True
        try:
            await load_json(rules.document, on_started=self._started)
        finally:
            self._starting = False
            strangers = self._unknown - set(self._children)
            self._unknown.clear()
        seen = self._read(rules)
        sizes = {name: len(elements) for name, elements in seen.elements.items()}
        if strangers or bool(seen.objects) != bool(rules.sizes) or sizes != rules.sizes:
            raise SwitchError("service security: the rules are not there as applied; another program changed them at once")
        self._rules, self._seen, self._intact_at = rules, seen, -1

    def _started(self, pid: int) -> None:
        self._children.append(pid)
        self._starting = False

    def intact(self) -> bool:
        """Is everything as last applied? False before that. O(1) when nobody made a transaction since. Raises SwitchError."""
        if self._rules is None:
            return False
        generation = self._tables.generation()
        if generation == self._intact_at:
            return True
        if self._read(self._rules) != self._seen:
            return False
        self._intact_at = generation
        return True

    def _read(self, rules: Rules) -> _Seen:
        return _Seen(self._tables.objects(), {name: self._tables.raw_elements(FAMILY, name) for name in rules.sizes})

    def remove(self) -> bool:
        """Remove the table; was there one? Raises SwitchError."""
        self._rules = None
        present = bool(self._tables.present())
        self._tables.remove()
        return present

    def owns(self, port: int) -> bool:
        """Was a change notified with that netlink port made here: by the socket, or one of the last `nft` children?

        A child may be done before the event loop tells its pid: what is heard in between is judged then.
        """
        if port == self._tables.port or port in self._children:
            return True
        if self._starting:
            self._unknown.add(port)
        return self._starting

    def close(self) -> None:
        """Close the socket; idempotent. The rules stay."""
        self._tables.close()
