from collections.abc import Callable, Sequence
from typing import TypeVar

from kvip._rtnl_py import Batch, Datagrams

T = TypeVar("T")

MAX_DATAGRAMS: int
"""Most datagrams of one `receive`: 128."""

def encode_changes(operations: Sequence[T], start: int, stop: int, sequence: int, encode: Callable[[T, int], bytes]) -> bytes:
    """The requests of `operations[start:stop]`; see `kvip._rtnl_py`. Of operations that differ in their address only, one is encoded."""

def receive(sock: Datagrams, buffer: bytearray, slot: int) -> list[int]:
    """The datagrams that wait, each at its own `slot` bytes of `buffer`; see `kvip._rtnl_py`."""

def match(batch: Batch, buffer: bytearray, slot: int, lengths: list[int]) -> None:
    """File what `receive` found; see `kvip._rtnl_py`. Of answers that differ in their address only, one is looked into."""
