"""Daemons with service security, and an `nft` that fails; they reach a test module by `pytest_plugins`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster


@pytest.fixture(scope="module")
def with_the_setting(shared_cluster: Cluster) -> Iterator[None]:
    """The daemons of this module have the setting; those of others do not."""
    for node in shared_cluster.nodes.values():
        if node.running:
            node.stop()
        node.env["enable_service_security"] = "true"
    yield
    for node in shared_cluster.nodes.values():
        if node.running:
            node.stop()
        del node.env["enable_service_security"]


@pytest.fixture
def secured(with_the_setting: None, cluster: Cluster) -> Cluster:
    return cluster


@pytest.fixture
def broken_nft(cluster: Cluster, tmp_path: Path) -> Path:
    """`nft -j` fails while this file exists, on nodes whose PATH has its folder first."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nft"
    marker = tmp_path / "broken"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--check*) ;; *-j*) [ -e {marker} ] && {{ echo out of order >&2; exit 1; }};; esac\n'
        f'exec {shutil.which("nft")} "$@"\n'
    )
    program.chmod(0o755)
    return marker
