"""The limits of an informer: how long it waits for what, and how it backs off. Data only."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of an informer, in seconds."""

    headers_s: float = 10.0
    snapshot_s: float = 60.0
    """For all pages of a list together."""
    watch_list_s: float = 10.0
    """For the initial events of a WatchList stream; a server that does not know it never ends them."""
    idle_s: float = 70.0
    """Bookmarks come about once a minute."""
    backoff_min_s: float = 0.2
    backoff_max_s: float = 10.0
    steady_s: float = 1.0
    """A stream that lasted this long counts as success; a shorter one as a failure, so that no server can cause a busy loop."""
    hurry_s: float = 1.0
    """Between two pauses that are cut short: others may be refused and granted in turns while this one is refused for good."""
    retry_after_max_s: float = 30.0
    page_s: float = 15.0
    page_size: int = 500
    life_s: tuple[int, int] = (300, 600)
    """The server is asked to end the watch after a random time in between, as client-go does: it spreads load over servers."""
