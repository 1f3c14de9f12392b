"""The LAN of the lab, and addresses bound on it for one test; they reach a test module by `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.lan import Lan


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with Lan(3) as lan:
        yield lan


@pytest.fixture
def bind(lan: Lan) -> Iterator[Callable[[str, str], None]]:
    """Bind an address on a node's eth0 as kvip does: /32 or /128, usable at once; taken off after the test."""
    bound: list[tuple[str, str]] = []

    def bind(node: str, ip: str) -> None:
        host = f"{ip}/{128 if ':' in ip else 32}"
        lan.run(node, "ip", "addr", "add", host, "dev", "eth0", *(("nodad",) if ":" in ip else ()))
        bound.append((node, host))

    yield bind
    for node, host in bound:
        lan.run(node, "ip", "addr", "del", host, "dev", "eth0", check=False)
