"""A snapshot being collected, and how it replaces the one before.

In: objects as they arrive, those that could not be read. Out: the new store, in which what is unknown keeps its old version.
Pure: no clock, no I/O.
"""

from __future__ import annotations

from typing import Generic

from kvip.kube.decode import Bookmark, Change, DecodeError, Removal, T, object_key


class Snapshot(Generic[T]):
    """Objects of a snapshot under way; not to be used before it is complete."""

    def __init__(self) -> None:
        self.items: dict[str, T] = {}
        self.broken: list[DecodeError] = []

    def apply(self, event: Change[T] | Removal | Bookmark) -> None:
        """Take in one event of the initial stream."""
        match event:
            case Change():
                self.items[object_key(event.item)] = event.item
            case Removal():
                self.items.pop(event.key, None)
                self.broken = [error for error in self.broken if error.key != event.key]

    def settle(self, before: dict[str, T]) -> dict[str, T]:
        """The complete snapshot, with the previous version of what could not be read now.

        An object that cannot even be named may be any of those that are missing: then nothing is missing for sure.
        """
        if any(not error.key for error in self.broken):
            return {**before, **self.items}
        after = dict(self.items)
        for error in self.broken:
            old = before.get(error.key)
            if old is not None and error.key not in after and error.uid in ("", old.metadata.uid):
                after[error.key] = old
        return after


def differs(before: T, after: T) -> bool:
    """True for another object of the same name, or another version of the same object."""
    one, two = before.metadata, after.metadata
    return one.uid != two.uid or one.resource_version != two.resource_version
