"""One LAN and one API server for the whole run; each test starts with two healthy daemons and must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.apihost import ApiHost
from lab.cluster import Cluster, wait
from lab.lan import API_IP, Lan


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/scenario" in str(item.path):
            item.add_marker(pytest.mark.scenario)
            item.add_marker(pytest.mark.timeout(120))


@pytest.fixture(scope="session")
def lan() -> Iterator[Lan]:
    with Lan(2) as lan:
        yield lan


@pytest.fixture(scope="session")
def api(lan: Lan, request: pytest.FixtureRequest) -> Iterator[ApiHost]:
    if request.config.getoption("--api") == "real":
        from lab.realapi import RealApi

        with RealApi(API_IP) as real:
            yield real
    else:
        from lab.embeddedapi import EmbeddedApi

        with EmbeddedApi(API_IP) as embedded:
            yield embedded


@pytest.fixture(scope="session")
def shared_cluster(lan: Lan, api: ApiHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(lan, api, work_dir=tmp_path_factory.mktemp("cluster"))
    cluster.register_nodes()
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    shared_cluster.start()
    yield shared_cluster
    shared_cluster.start()
    shared_cluster.delete_all()
    wait(lambda: not shared_cluster.left(), "nothing left on any node after the test", timeout_s=10)
