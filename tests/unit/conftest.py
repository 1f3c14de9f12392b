"""What holds for the unit ring alone: how many examples of a property are tried, and what the garbage collector leaves alone."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

settings.register_profile("all", parent=settings.default)
settings.register_profile("some", parent=settings.default, max_examples=25)
settings.load_profile("some")
"""`make unit` tries a quarter of the examples that `make properties` tries, other ones in each run."""


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported and collected stays to the end: the collector need not walk it again after each few tests."""
    gc.collect()
    gc.freeze()
