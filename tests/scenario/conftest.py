"""One LAN and one API server for the whole run; each test starts with two healthy daemons and must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import previous
from lab.apihost import ApiHost
from lab.cluster import CLAIMS, GLOBAL, Cluster, wait
from lab.embeddedapi import EmbeddedApi
from lab.lan import API_IP, Lan
from lab.node import REPOSITORY
from lab.rollout import replace_all
from lab.scene import recover
from lab.segment import SecondSegment

MODES = (CLAIMS, GLOBAL)
"""Of the tests that run in several; a module may name others in its own MODES, the default ring's first."""
DEFAULT_RING = frozenset(
    f"test_{name}.py"
    for name in (
        "bad_input",
        "claims",
        "fault_table",
        "fencing",
        "left_behind",
        "lifecycle",
        "service_security",
        "service_security_rules",
        "sharing",
    )
)
"""Modules whose tests run without --slow, but for those that say that they are slow."""
DEFAULT_MODE = CLAIMS
"""Of the tests that run in one mode only, unless their module says another MODE."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also the scenario tests that are not in the default ring")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: a scenario that runs with --slow only")
    config.addinivalue_line("markers", "embedded: a scenario that needs an API server which fails on request")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Who asks for `mode` runs once in each of its module's MODES; in the default ring in the first only."""
    if "mode" in metafunc.fixturenames:
        chosen = getattr(metafunc.module, "MODES", MODES)
        modes = [pytest.param(mode, marks=[] if mode == chosen[0] else [pytest.mark.slow]) for mode in chosen]
        metafunc.parametrize("mode", modes, indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/scenario" in str(item.path):
            item.add_marker(pytest.mark.scenario)
            item.add_marker(pytest.mark.timeout(120))
            fault = getattr(item, "callspec", None) and item.callspec.params.get("fault")  # type: ignore[attr-defined]
            if "embedded" in getattr(item, "fixturenames", ()) or getattr(fault, "embedded", False):
                item.add_marker(pytest.mark.embedded)
            if item.path.name not in DEFAULT_RING:
                item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("slow") and not config.getoption("--slow", default=False):
                item.add_marker(pytest.mark.skip(reason="slow; runs with --slow"))


@pytest.fixture(scope="session")
def lan() -> Iterator[Lan]:
    with Lan(3) as lan:
        yield lan


@pytest.fixture(scope="session")
def api(lan: Lan, request: pytest.FixtureRequest) -> Iterator[ApiHost]:
    if request.config.getoption("--api") == "real":
        from lab.realapi import RealApi

        with RealApi(API_IP) as real:
            yield real
    else:
        with EmbeddedApi(API_IP) as embedded:
            yield embedded


@pytest.fixture(scope="session")
def shared_cluster(lan: Lan, api: ApiHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(lan, api, work_dir=tmp_path_factory.mktemp("cluster"))
    cluster.register_nodes()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def mode(request: pytest.FixtureRequest) -> str:
    """The election mode; a test that asks for it runs once in each mode."""
    return str(request.param)


@pytest.fixture
def cluster(shared_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    default = getattr(request.module, "MODE", DEFAULT_MODE)
    shared_cluster.use(request.getfixturevalue("mode") if "mode" in request.fixturenames else default)
    shared_cluster.start()
    # After a test in another mode nothing is taken until that one's Lease has stood still for long enough (PROTOCOL G5).
    for node in shared_cluster.nodes.values():
        wait(lambda node=node: "nothing is taken" not in node.get("/readyz")[1], "no other mode is in the way", timeout_s=25)  # type: ignore[misc]
    yield shared_cluster
    recover(shared_cluster)


@pytest.fixture
def embedded(cluster: Cluster) -> Iterator[EmbeddedApi]:
    """The API server, where it can fail on request; in health again afterwards."""
    if not isinstance(cluster.api, EmbeddedApi):
        pytest.skip("only the embedded API server fails on request")
    yield cluster.api
    cluster.api.reset()


@pytest.fixture
def segment(lan: Lan) -> Iterator[SecondSegment]:
    """A second segment, with NIC eth1, of two nodes and the client."""
    with SecondSegment(lan, "n1", "n2") as segment:
        yield segment


@pytest.fixture(scope="session")
def former_code() -> Path:
    """The code of the version before this one; whoever asks for it is skipped, and says so, where the history does not have it."""
    if why := previous.missing():
        pytest.skip(why)
    return previous.unpacked()


@pytest.fixture
def former(cluster: Cluster, former_code: Path) -> Iterator[Path]:
    """The same, for a test that runs daemons of it; afterwards all are of this version again."""
    yield former_code
    replace_all(cluster, REPOSITORY)
