"""What benchmarks stand on: a network namespace, a veth pair in it, the C limits, and the suites that take the figures.

Fails, with the command to type, where root or a C compiler is missing: a benchmark that measured nothing is no result.
`--all` runs the long parts too; `--record` keeps the figures under docs/ (benchmarks/record.py).
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.crowd import Crowd
from benchmarks.figures import Machine, Suite
from benchmarks.nics import link_of, make_veth, run
from benchmarks.progress import Progress, suite_of
from benchmarks.record import DIRECTORY, keep, machine, ordered, stamp
from benchmarks.tables import plain
from kvip.core.model import Link

CLONE_NEWNET = 0x40000000
_suites: dict[str, Suite] = {}
_progress = Progress()
_LAST = ("takeover", "scale")
"""A take-over is the end of its crowd; the simulation is the longest of all, and needs no quiet machine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also the long benchmarks")
    parser.addoption("--record", action="store_true", help="keep the figures, and make a document of all that are kept")
    parser.addoption("--into", type=Path, default=DIRECTORY, help="where they are kept, the document beside it (docs/performance)")
    parser.addoption("--api", choices=("embedded", "real"), default="embedded", help="API server of the benchmarks with daemons")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: a benchmark that runs with --all only")


@pytest.hookimpl(tryfirst=True)  # before pytest brings together what shares a crowd
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--all"):
            item.add_marker(pytest.mark.skip(reason="long; runs with --all"))
    items.sort(key=lambda item: _LAST.index(suite_of(item.nodeid)) if suite_of(item.nodeid) in _LAST else -1)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_MACHINE] = machine()


_MACHINE = pytest.StashKey[Machine]()


def pytest_collection_finish(session: pytest.Session) -> None:
    _progress.expect(session.items)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _progress.report(report)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Kept after each benchmark, so that a run which is broken off loses only the one that it was at."""
    if item.config.getoption("--record"):
        _keep(suite_of(item.nodeid), item.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.collectonly:
        return
    found = [_progress.complete(suite) for suite in ordered(_suites.values())]
    terminalreporter.write_line("\n" + plain(found))
    for line in _progress.elsewhere(_suites):
        terminalreporter.write_line(line)
    if config.getoption("--record"):
        for name in _suites:
            _keep(name, config)


def _keep(name: str, config: pytest.Config) -> None:
    suite = _suites.get(name)
    if suite is not None and suite.figures:
        stamp(suite, command=_command(name, config), on=config.stash[_MACHINE])
        keep([_progress.complete(suite)], config.getoption("--into"))


def _command(name: str, config: pytest.Config) -> str:
    """What to type to take these figures anew, with what was chosen of them."""
    chosen = config.getoption("keyword")
    flags = [*([f'-k "{chosen}"'] if chosen else []), *(["--api=real"] if config.getoption("--api") == "real" else [])]
    return f'make bench-all SUITES="{name}"' + (f" FLAGS='{' '.join(flags)}'" if flags else "")


@pytest.fixture(scope="session")
def suites() -> Callable[[str, str], Suite]:
    """The suite of a name, with its title; printed at the end, and kept with --record."""

    def suite(name: str, title: str) -> Suite:
        return _suites.setdefault(name, Suite(name=name, title=title))

    return suite


@pytest.fixture
def own_netns() -> Iterator[None]:
    """A network namespace for one test; os.unshare exists only since Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.fail(f"no network namespace ({os.strerror(ctypes.get_errno())}); as root: unshare -n -m python -m pytest benchmarks")
        yield
        assert libc.setns(home, CLONE_NEWNET) == 0
    finally:
        os.close(home)


@pytest.fixture
def veth(own_netns: None) -> Link:
    """The sending end of a veth pair in a namespace of its own."""
    return link_of(make_veth())


@pytest.fixture(scope="session")
def limit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """benchmarks/limit.c as a program."""
    return _compiled("limit", tmp_path_factory.mktemp("limit"))


@pytest.fixture(scope="session")
def changes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """benchmarks/changes.c as a program."""
    return _compiled("changes", tmp_path_factory.mktemp("changes"))


def _compiled(name: str, where: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail("no C compiler to measure against: apt-get install gcc libc6-dev")
    run(compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(where / name), str(Path(__file__).with_name(f"{name}.c")))
    return where / name


@pytest.fixture(scope="session")
def crowd(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    """A lab whose node n1 holds as many VIPs as the parameter says; tests with the same number share it, in the order of their files."""
    count, mode = request.param
    with Crowd(count, api=request.config.getoption("--api"), mode=mode) as crowd:
        crowd.rest(limit_s=30 + crowd.count / 50)
        yield crowd
