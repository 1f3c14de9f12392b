"""The table of service security in the kernel: whole or not at all, noticed when changed, owned, removed."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.service_rules import PROTOCOLS, TABLE, Opening, Owner, Restriction, Rules, compile_rules, sample
from kvip.errors import SwitchError
from kvip.kernel.nft_child import load_json
from kvip.kernel.ruleset_monitor import RulesetMonitor
from kvip.kernel.service_rules import ServiceRules
from tests.netns.service_rules_lab import OWNER, let

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
VIP, VIP6 = Vip("192.0.2.7"), Vip("2001:db8::7")


def nft(*command: str) -> str:
    return subprocess.run(["nft", *command], check=True, capture_output=True, text=True, timeout=10).stdout


@pytest.fixture
def table() -> Iterator[ServiceRules]:
    nft("flush", "ruleset")
    rules = ServiceRules()
    yield rules
    rules.close()
    nft("flush", "ruleset")


def apply(table: ServiceRules, restrictions: dict[Vip, Restriction], nics: tuple[str, ...] = ("eth0",)) -> None:
    asyncio.run(table.apply(compile_rules(restrictions, nics=nics)))


def test_the_kernel_shows_what_was_asked_for_with_uid_and_name(table: ServiceRules):
    apply(table, {VIP: let(("tcp", 80)), VIP6: let(("sctp", 9000))}, ("eth0", "bond0.100"))
    listing = nft("list", "ruleset")
    assert f'{VIP} . tcp . 80 comment "{OWNER.uid} {OWNER.service}"' in listing
    assert f'{VIP6} . sctp . 9000 comment "{OWNER.uid} {OWNER.service}"' in listing
    assert '"bond0.100"' in listing
    assert table.intact()


def test_a_new_state_replaces_the_former_one_and_the_last_vip_takes_the_table_along(table: ServiceRules):
    apply(table, {VIP: let(("tcp", 80)), VIP6: let()})
    apply(table, {VIP6: let(("tcp", 81))})
    listing = nft("list", "ruleset")
    assert VIP not in listing
    assert "81" in listing
    apply(table, {})
    assert nft("list", "ruleset") == ""
    assert table.intact()


@pytest.mark.parametrize(
    "change",
    [
        ("flush", "ruleset"),
        ("delete", "table", "inet", TABLE),
        ("insert", "rule", "inet", TABLE, "arriving", "accept"),
        ("flush", "chain", "inet", TABLE, "allowed"),
        ("flush", "set", "inet", TABLE, "vips4"),
        ("delete", "element", "inet", TABLE, "nics", "{ eth0 }"),
        ("add", "element", "inet", TABLE, "ports4", "{ 192.0.2.7 . tcp . 22 }"),
        ("add", "table", "inet", TABLE, "{ flags dormant; }"),
    ],
    ids=" ".join,
)
def test_any_change_by_others_is_noticed_and_applying_again_mends_it(table: ServiceRules, change: tuple[str, ...]):
    apply(table, {VIP: let(("tcp", 80))})
    assert table.intact()
    nft(*change)
    assert not table.intact()
    apply(table, {VIP: let(("tcp", 80))})
    assert table.intact()


def test_transactions_of_others_elsewhere_are_no_change(table: ServiceRules):
    apply(table, {VIP: let(("tcp", 80))})
    nft("add", "table", "inet", "other")
    assert table.intact()


def test_a_refused_document_leaves_the_former_rules_in_force(table: ServiceRules):
    apply(table, {VIP: let(("tcp", 80))})
    bad = Rules(document=b'{"nftables": [{"flush": {"ruleset": null}}, {"add": {"rule": {"family": "inet", "table": "x"}}}]}')
    with pytest.raises(SwitchError, match="nft refused the rules"):
        asyncio.run(table.apply(bad))
    assert str(VIP) in nft("list", "ruleset")
    assert table.intact()


def test_a_cancelled_child_is_dead_before_the_caller_goes_on(table: ServiceRules):
    many = {Vip(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"): let(("tcp", 80), ("tcp", 443)) for n in range(1, 5_000)}
    rules = compile_rules(many, nics=("eth0",))

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await table.apply(rules)

    asyncio.run(cancelled())
    table.remove()
    assert TABLE not in nft("list", "tables")


def test_what_can_work_here_is_asked_without_a_trace(table: ServiceRules):
    asyncio.run(ServiceRules.require())
    assert nft("list", "ruleset") == ""
    assert asyncio.run(load_json(compile_rules(sample(), nics=("lo",)).document)) is None


def test_removing_tells_whether_there_was_a_table_and_touches_no_other(table: ServiceRules):
    assert not table.remove()
    apply(table, {VIP: let()})
    nft("add", "table", "ip", TABLE)
    assert table.remove()
    assert nft("list", "tables").split() == ["table", "ip", TABLE]


def test_the_monitor_tells_of_others_changes_to_this_table_and_not_of_our_own(table: ServiceRules):
    heard: list[bool] = []

    async def scene() -> list[int]:
        monitor = RulesetMonitor(on_changed=lambda: heard.append(True), owns=table.owns, table=TABLE)
        task = asyncio.create_task(monitor.run())
        await asyncio.sleep(0.05)
        counts = []
        for change in (
            lambda: table.apply(compile_rules({VIP: let(("tcp", 80))}, nics=("eth0",))),
            lambda: asyncio.to_thread(nft, "add", "table", "inet", "kvip"),
            lambda: asyncio.to_thread(nft, "flush", "set", "inet", TABLE, "vips4"),
            lambda: asyncio.to_thread(nft, "flush", "ruleset"),
        ):
            heard.clear()
            await change()
            await asyncio.sleep(0.1)
            counts.append(len(heard))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return counts

    own, elsewhere, elements, flush = asyncio.run(scene())
    assert (own, elsewhere) == (0, 0)
    assert elements > 0
    assert flush > 0


owners = st.builds(Owner, uid=st.text(max_size=50).map(Uid), service=st.text(max_size=150).map(ServiceKey))
restrictions = st.builds(
    lambda several, ports: Restriction(owners=tuple(several), openings=tuple(Opening(*port, owner) for port, owner in ports.items())),
    several=st.lists(owners, max_size=5),
    ports=st.dictionaries(st.tuples(st.sampled_from(sorted(PROTOCOLS)), st.integers(1, 65_535)), owners, max_size=5),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([VIP, VIP6, Vip("10.0.0.1"), Vip("2001:db8::1:0")]), restrictions, max_size=4))
def test_whatever_the_services_are_called_the_kernel_takes_the_rules_and_shows_them(table: ServiceRules, wanted: dict[Vip, Restriction]):
    apply(table, wanted)
    assert table.intact()


def test_a_change_by_others_while_our_own_child_starts_is_not_taken_for_ours(table: ServiceRules, monkeypatch: pytest.MonkeyPatch):
    """The event loop tells a child's pid only after the child may have worked already."""

    async def busy(document: bytes, *, on_started: Callable[[int], None]) -> None:
        assert table.owns(4_000_001)
        await load_json(document, on_started=on_started)

    monkeypatch.setattr("kvip.kernel.service_rules.load_json", busy)
    with pytest.raises(SwitchError, match="another program"):
        apply(table, {VIP: let()})
    assert not table.owns(4_000_001)
