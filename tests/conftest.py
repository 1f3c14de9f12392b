"""Options and checks that hold for every ring."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--api", choices=("embedded", "real"), default="embedded", help="API server of the scenario tests")
