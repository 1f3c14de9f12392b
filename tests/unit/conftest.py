"""What holds for the unit ring alone."""

from __future__ import annotations

import gc

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported and collected stays to the end: the collector need not walk it again after each few tests."""
    gc.collect()
    gc.freeze()
