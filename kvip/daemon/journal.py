"""The journal: the ledger on disk, so that after a crash it is known whose a left-over address was.

Input: the ledger. Output: one JSON file, a line per VIP, replaced atomically, only when it changed. The kernel stays the truth: a
journal that is missing, torn or foreign is set aside with a warning and never stops anything.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from kvip import metrics
from kvip.core.election.heartbeat import node_of
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import Incarnation, Vip
from kvip.errors import UNREADABLE, KvipError

log = logging.getLogger(__name__)

FILE_NAME = "ledger.json"
DEBOUNCE_S = 0.02
REST = 9.0
"""After a write the next one waits for so many times what it took: a large journal takes a tenth of the time at most."""
FORMAT = 1
LINES_PER_TURN = 256
LARGEST_BYTES = 64 << 20


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    format: int = FORMAT
    boot_id: str
    node: str
    incarnation: Incarnation
    claims: dict[Vip, tuple[Claimant, ...]] = {}


class _Versioned(msgspec.Struct):
    """What the file of every version has."""

    format: int


class NewerJournal(KvipError):
    """A journal in a format of a later version of kvip."""


def boot_id() -> str:
    """This boot's identity (proc(5), random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def decode(data: bytes) -> Journal:
    """What the bytes of a journal say. Raises NewerJournal, or one of UNREADABLE for what is torn or not kvip's."""
    # Read by itself: what else a later version writes need not have the form that this one knows.
    found = msgspec.json.decode(data, type=_Versioned).format
    if found > FORMAT:
        raise NewerJournal(f"format {found}, this kvip reads {FORMAT}")
    if found != FORMAT:
        raise msgspec.ValidationError(f"there is no format {found}")
    return msgspec.json.decode(data, type=Journal)


def load(directory: Path) -> Journal | None:
    """The journal of a former daemon; None when there is none or it cannot be used (it is then set aside)."""
    path = directory / FILE_NAME
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES:
            raise OSError(errno.EINVAL, f"not a regular file of at most {LARGEST_BYTES} bytes")
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn("the journal cannot be read; going on without it", path, str(error))
        return None
    try:
        return decode(data)
    except NewerJournal as error:
        _set_aside("the journal is of a newer kvip; going on without it", path, ".json.newer", str(error))
    except UNREADABLE as error:
        _set_aside("the journal is torn or not kvip's; going on without it", path, ".json.bad", str(error))
    return None


def is_predecessors(journal: Journal | None, *, node: str) -> bool:
    """Was it written by a former daemon of this node in this boot? One that names another node's life would have that one's VIPs taken
    for free while it lives (PROTOCOL R7)."""
    return journal is not None and journal.boot_id == boot_id() and journal.node == node == node_of(journal.incarnation)


def line(vip: Vip, claimants: Iterable[Claimant]) -> bytes:
    """What the file says of one VIP."""
    return msgspec.json.encode({vip: tuple(claimants)})[1:-1]


def document(head: Journal, lines: Iterable[bytes]) -> bytes:
    """The whole file: `head`, with these lines for its claims."""
    start = msgspec.json.encode(msgspec.structs.replace(head, claims={})).removesuffix(b"}}")
    return b"".join((start, b"\n", b",\n".join(lines), b"\n}}\n"))


def save(directory: Path, content: bytes) -> None:
    """Replace the file atomically. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    temporary = path.with_suffix(".json.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fdatasync(file.fileno())
    temporary.replace(path)


class JournalWriter:
    """Writes the ledger behind the loop: the first change at once, the next ones together. A disk that fails costs a warning."""

    def __init__(
        self, directory: Path, ledger: Ledger, *, node: str, incarnation: Callable[[], Incarnation], known: Callable[[], bool]
    ) -> None:
        """`known`: is the ledger complete? Before that the file of the former daemon stays."""
        self._known = known
        self._directory = directory
        self._ledger = ledger
        self._node = node
        self._incarnation = incarnation
        self._boot_id = boot_id()
        self._changed = asyncio.Event()
        self._news: set[Vip] = set()
        self._lines: dict[Vip, bytes] = {}
        self._written: Incarnation | None = None
        """The incarnation that the file names; None = the file is not as it is to be."""
        self._failing = False
        self._lock = asyncio.Lock()

    def touch(self) -> None:
        """The ledger or the incarnation changed."""
        self._changed.set()

    async def run(self) -> None:
        """Write after each change, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = time.monotonic()
            await self.flush()
            await asyncio.sleep(max(DEBOUNCE_S, REST * (time.monotonic() - began)))

    async def flush(self) -> None:
        """Write now, if anything changed since the last time."""
        async with self._lock:
            await self._write()

    async def _write(self) -> None:
        if not self._known():
            return
        await self._catch_up()
        life = self._incarnation()
        if life == self._written:
            return
        self._written = None
        head, lines = Journal(boot_id=self._boot_id, node=self._node, incarnation=life), tuple(self._lines.values())
        try:
            await asyncio.to_thread(lambda: save(self._directory, document(head, lines)))
        except OSError as error:
            metrics.journal_failures_total.inc()
            if not self._failing:
                self._failing = True
                log.warning(
                    "the journal cannot be written; going on without it", extra={"path": str(self._directory), "reason": str(error)}
                )
        else:
            self._written = life
            if self._failing:
                self._failing = False
                log.info("the journal is written again", extra={"path": str(self._directory)})

    async def _catch_up(self) -> None:
        """Make the lines of the VIPs whose claimants changed anew."""
        self._news |= self._ledger.news()
        while self._news:
            for vip in [self._news.pop() for _ in range(min(LINES_PER_TURN, len(self._news)))]:
                claimants = self._ledger.claimants(vip).values()
                new = line(vip, claimants) if claimants else None
                if new == self._lines.get(vip):
                    continue
                self._written = None
                if new is None:
                    del self._lines[vip]
                else:
                    self._lines[vip] = new
            await asyncio.sleep(0)


def _warn(message: str, path: Path, reason: str) -> None:
    metrics.journal_failures_total.inc()
    log.warning(message, extra={"path": str(path), "reason": reason})


def _set_aside(message: str, path: Path, suffix: str, reason: str) -> None:
    aside = path.with_suffix(suffix)
    try:
        path.replace(aside)
        problem = f"{reason}; set aside as {aside.name}"
    except OSError as failure:
        problem = f"{reason}; it could not be set aside: {failure}"
    _warn(message, path, problem)
