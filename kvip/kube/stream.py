"""Cuts a byte stream into lines, whatever the sizes of its chunks.

In: chunks as the socket gave them. Out: complete lines without their newline. Must not decode, and must not touch a socket.
aiohttp's own readline refuses a line longer than its buffer; a watch event is one line of up to some MiB.
"""

from __future__ import annotations

from kvip.errors import KvipError

LINE_LIMIT_BYTES = 64 << 20


class LineTooLongError(KvipError):
    """A line longer than the limit: no watch event is that long, so the stream is not one."""


class LineSplitter:
    """Collects chunks until a newline comes; each byte is copied at most twice, however small the chunks."""

    def __init__(self, *, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, empty ones left out. Raises `LineTooLongError`."""
        first, *rest = chunk.split(b"\n")
        if not rest:
            self._hold(first)
            return []
        self._parts.append(first)
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts = []
        self._held = 0
        self._hold(rest[-1])
        return [line for line in lines if line]

    @property
    def held_bytes(self) -> int:
        """Bytes of the line that is not complete yet."""
        return self._held

    def _hold(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._held += len(part)
        if self._held > self._limit:
            raise LineTooLongError(f"a line of more than {self._limit} bytes in a watch stream; it is opened anew")
