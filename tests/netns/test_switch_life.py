"""The dead-man's switch in time and among others: arming (K4), someone else's changes (K7), what it needs (K8)."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kvip.clock import SystemClock
from kvip.core.model import Vip
from kvip.errors import SwitchError
from kvip.kernel.ruleset_monitor import RulesetMonitor
from kvip.kernel.switch import Expired, Late, Switch
from tests.netns.conftest import Veth

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
VIPS = (Vip("192.0.2.7"), Vip("2001:db8::7"))


class StoppingClock(SystemClock):
    """The kernel's clock; the process is as if stopped for a while just before chosen looks at it (1 = the next one)."""

    def __init__(self) -> None:
        self.stops: dict[int, float] = {}

    def now(self) -> float:
        self.stops = {look - 1: length_s for look, length_s in self.stops.items()}
        time.sleep(self.stops.pop(0, 0.0))
        return super().now()


def nft(*command: str) -> str:
    return subprocess.run(["nft", *command], check=True, capture_output=True, text=True, timeout=10).stdout


def expires_s(family: str) -> float | None:
    """Seconds for which the group is alive in one table, as nft(8) shows it."""
    listing = nft("list", "set", family, "kvip", "alive_main")
    found = re.search(r"expires (?:(\d+)s)?(?:(\d+)ms)?", listing)
    return None if found is None else int(found[1] or 0) + int(found[2] or 0) / 1000


def alive() -> bool:
    return any(expires_s(family) is not None for family in ("arp", "inet", "netdev"))


@pytest.fixture
def clock() -> StoppingClock:
    return StoppingClock()


@pytest.fixture
def switch(veth: Veth, clock: StoppingClock) -> Iterator[Switch]:
    switch = Switch(clock=clock)
    switch.install(nics=[veth.name], vips={})
    yield switch
    subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=10)
    switch.close()


# -- arming ----------------------------------------------------------------------------------------------------------------


def test_k4_rearming_moves_the_end_in_every_table_and_never_past_the_validity(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 1)
    for length_s in (5.0, 2.0):
        until = clock.now() + length_s
        switch.rearm("main", until=until)
        for family in ("arp", "inet", "netdev"):
            left = expires_s(family)
            assert left is not None
            assert length_s - 1 < left <= length_s


def test_k4_what_the_kernel_has_switched_off_is_not_armed_again(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 0.3)
    time.sleep(0.25)
    with pytest.raises(Expired):
        switch.rearm("main", until=clock.now() + 5)
    assert not alive()


def test_k4_rearming_is_one_transaction_over_all_tables(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 2)
    nft("flush", "set", "netdev", "kvip", "alive_main")
    with pytest.raises(Expired):
        switch.rearm("main", until=clock.now() + 60)
    assert [(expires_s(family) or 0.0) < 2 for family in ("arp", "inet", "netdev")] == [True] * 3


def test_k4_without_a_first_arm_nothing_is_alive(switch: Switch, clock: StoppingClock):
    with pytest.raises(Expired):
        switch.rearm("main", until=clock.now() + 5)
    assert not alive()


def test_k4_a_stop_within_the_first_arm_ends_in_silence(switch: Switch, clock: StoppingClock):
    """Looks at the clock: before the add, at the start of the re-arming, for its timeout, after it."""
    until = clock.now() + 60
    clock.stops = {2: 0.15}
    with pytest.raises(Expired):
        switch.arm_first("main", until=until)
    assert not alive()


def test_k4_a_stop_between_timeout_and_acknowledgement_is_late_and_disarms(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 60)
    clock.stops = {1 + 3: 0.15, 1 + 6: 0.15}
    with pytest.raises(Late):
        switch.rearm("main", until=clock.now() + 60)
    assert not alive()


def test_k4_one_short_stop_is_made_up_for_with_a_shorter_timeout(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 60)
    clock.stops = {1 + 3: 0.15}
    until = clock.now() + 5
    switch.rearm("main", until=until)
    left = expires_s("arp")
    assert left is not None
    assert clock.now() + left <= until


def test_k4_a_validity_that_has_ended_is_late_and_disarms(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 60)
    with pytest.raises(Late):
        switch.rearm("main", until=clock.now() + 0.05)
    assert not alive()


def test_k4_the_first_arm_replaces_what_is_still_alive(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 60)
    switch.arm_first("main", until=clock.now() + 3)
    left = expires_s("inet")
    assert left is not None
    assert left <= 3


def test_k4_disarming_what_is_not_armed_is_fine_and_what_is_armed_ends_at_once(switch: Switch, clock: StoppingClock):
    switch.disarm()
    switch.arm_first("main", until=clock.now() + 60)
    switch.disarm("main")
    assert not alive()
    switch.disarm("main")


# -- the maps ----------------------------------------------------------------------------------------------------------------


def test_k1_places_are_read_back_from_the_kernel(switch: Switch, veth: Veth):
    switch.silence(dict.fromkeys(VIPS, veth.name))
    switch.admit({VIPS[1]: veth.name})
    assert switch.contents() == {VIPS[0]: "silent", VIPS[1]: "main"}
    assert switch.admitted == {VIPS[1]: "main"}
    assert switch.intact()
    switch.silence({VIPS[1]: veth.name})
    assert switch.admitted == {}


def test_k1_ten_thousand_vips_move_in_one_transaction(switch: Switch, veth: Veth):
    many = {Vip(f"10.{number >> 8}.{number & 255}.1"): veth.name for number in range(5_000)}
    many |= {Vip(f"2001:db8::1:{number:x}"): veth.name for number in range(5_000)}
    switch.silence(many)
    switch.admit(many)
    assert set(switch.contents().values()) == {"main"}
    switch.remove(many)
    assert switch.contents() == {}


def test_k1_a_nic_without_rules_is_refused_and_nothing_changes(switch: Switch, veth: Veth):
    with pytest.raises(SwitchError, match="no rules for NIC 'eth77'"):
        switch.admit({VIPS[0]: veth.name, VIPS[1]: "eth77"})
    assert switch.contents() == {}


def test_k1_the_tables_can_be_listed_by_nft_as_they_are_filled(switch: Switch, veth: Veth):
    switch.admit(dict.fromkeys(VIPS, veth.name))
    listing = nft("list", "ruleset")
    assert "192.0.2.7 : goto on_main_0" in listing
    assert "0x20010db8000000000000000000000007 : goto on_main_0" in listing


# -- other owners ------------------------------------------------------------------------------------------------------------


def test_tables_of_other_owners_are_untouched_by_install_and_uninstall(veth: Veth, clock: StoppingClock):
    nft("add table ip kvip; add table inet kube-proxy; add chain inet kube-proxy x; add rule inet kube-proxy x counter accept")
    nft("add table arp other")
    before = nft("list", "ruleset")
    switch = Switch(clock=clock)
    try:
        switch.install(nics=[veth.name], vips=dict.fromkeys(VIPS, veth.name))
        switch.install(nics=[veth.name], vips={})
        switch.uninstall()
        assert nft("list", "ruleset") == before
        switch.uninstall()
        assert nft("list", "ruleset") == before
    finally:
        nft("flush", "ruleset")
        switch.close()


CHANGES = {
    "all rules flushed": "flush ruleset",
    "a table flushed": "flush table arp kvip",
    "a table removed": "delete table netdev kvip",
    "a rule added": "insert rule inet kvip arriving accept",
    "a VIP added": "add element arp kvip vips4 { 192.0.2.99 : goto silent }",
    "a VIP removed": "delete element netdev kvip vips4 { 192.0.2.7 }",
    "a VIP let loose": "delete element arp kvip vips4 { 192.0.2.7 }; add element arp kvip vips4 { 192.0.2.7 : accept }",
    "a table put to sleep": "add table arp kvip { flags dormant; }",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_k7_a_foreign_change_is_seen_and_put_right_by_installing_again(switch: Switch, veth: Veth, change: str):
    switch.admit(dict.fromkeys(VIPS, veth.name))
    assert switch.intact()
    nft("add table ip bystander")
    assert switch.intact(), "a change elsewhere is none of ours"
    nft(change)
    assert not switch.intact()
    switch.install(nics=[veth.name], vips=dict.fromkeys(VIPS, veth.name))
    assert switch.intact()
    assert switch.contents() == dict.fromkeys(VIPS, "silent")


def test_k7_what_the_switch_does_itself_leaves_it_intact(switch: Switch, veth: Veth, clock: StoppingClock):
    switch.admit(dict.fromkeys(VIPS, veth.name))
    switch.arm_first("main", until=clock.now() + 0.3)
    assert switch.intact()
    time.sleep(0.3)
    assert switch.intact(), "expiry is no change"


def test_k7_a_map_that_was_flushed_stays_noticed_after_the_next_own_change(switch: Switch, veth: Veth):
    switch.admit(dict.fromkeys(VIPS, veth.name))
    for family, name in (("arp", "vips4"), ("inet", "vips4"), ("inet", "vips6"), ("netdev", "vips4"), ("netdev", "vips6")):
        nft("flush", "map", family, "kvip", name)
    switch.silence({VIPS[0]: veth.name})
    assert switch.contents() == {VIPS[0]: "silent"}
    assert not switch.intact()


def test_k7_without_rules_arming_and_disarming_say_so(switch: Switch, clock: StoppingClock):
    nft("flush", "ruleset")
    with pytest.raises(SwitchError) as arming:
        switch.rearm("main", until=clock.now() + 5)
    assert not isinstance(arming.value, Expired), "the kernel has not fenced: nothing is silenced"
    with pytest.raises(SwitchError):
        switch.disarm()


def test_k7_one_table_gone_does_not_keep_the_others_alive(switch: Switch, clock: StoppingClock):
    switch.arm_first("main", until=clock.now() + 60)
    nft("delete", "table", "inet", "kvip")
    with pytest.raises(SwitchError):
        switch.disarm()
    assert expires_s("arp") is None
    assert expires_s("netdev") is None


# -- the monitor -------------------------------------------------------------------------------------------------------------


class Watching:
    """The monitor runs; `calls` counts what it said."""

    def __init__(self, **options: object) -> None:
        self.calls = 0
        self.news = asyncio.Event()
        self.monitor = RulesetMonitor(on_changed=self._called, **options)  # type: ignore[arg-type]

    def _called(self) -> None:
        self.calls += 1
        self.news.set()

    async def __aenter__(self) -> Watching:
        self.task = asyncio.create_task(self.monitor.run())
        await asyncio.wait_for(self.news.wait(), 2)  # the call at the start
        self.news.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def said_nothing(self) -> bool:
        await asyncio.sleep(0.1)
        return not self.news.is_set()


async def test_k7_a_foreign_flush_is_announced_within_a_second_and_put_back_silent_first(switch: Switch, veth: Veth, clock: StoppingClock):
    switch.admit(dict.fromkeys(VIPS, veth.name))
    switch.arm_first("main", until=clock.now() + 60)
    async with Watching(owns=switch.owns) as watching:
        nft("flush", "ruleset")
        began = time.monotonic()
        await asyncio.wait_for(watching.news.wait(), 1)
        assert not switch.intact()
        switch.install(nics=[veth.name], vips=dict.fromkeys(VIPS, veth.name))
        assert time.monotonic() - began < 1
        assert switch.contents() == dict.fromkeys(VIPS, "silent")
        assert not alive()
        switch.admit(dict.fromkeys(VIPS, veth.name))
        switch.arm_first("main", until=clock.now() + 60)
        assert alive()


async def test_k7_own_changes_and_other_tables_are_no_news(switch: Switch, veth: Veth, clock: StoppingClock):
    async with Watching(owns=switch.owns) as watching:
        switch.admit(dict.fromkeys(VIPS, veth.name))
        switch.arm_first("main", until=clock.now() + 60)
        switch.others([Vip("192.0.2.8")])
        switch.install(nics=[veth.name], vips=dict.fromkeys(VIPS, veth.name))
        nft("add table inet bystander; add chain inet bystander kvip; add table ip kvip")
        assert await watching.said_nothing()
        nft("add element arp kvip vips4 { 192.0.2.99 : goto silent }")
        await asyncio.wait_for(watching.news.wait(), 1)


async def test_k7_events_that_were_lost_are_news(switch: Switch):
    async with Watching(owns=switch.owns, receive_buffer=2048) as watching:
        elements = ", ".join(f"10.1.{number >> 8}.{number & 255}" for number in range(2_000))
        nft(f"add table ip bystander; add set ip bystander s {{ type ipv4_addr; }}; add element ip bystander s {{ {elements} }}")
        await asyncio.wait_for(watching.news.wait(), 2)
        assert watching.monitor.overruns == 1


# -- what it needs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A program nft of our own in front of the real one."""

    def make(script: str) -> None:
        program = tmp_path / "nft"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_k8_this_machine_has_what_the_switch_needs_and_asking_changes_nothing(own_namespace: None):
    before = nft("list", "ruleset")
    Switch.require()
    assert nft("list", "ruleset") == before


def test_k8_a_missing_nft_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(SwitchError, match="program nft is missing"):
        Switch.require()


def test_k8_a_missing_right_is_named(fake_nft: Callable[[str], None]):
    fake_nft("echo '/dev/stdin:1:1-9: Error: Could not process rule: Operation not permitted' >&2; exit 1")
    with pytest.raises(SwitchError, match="CAP_NET_ADMIN"):
        Switch.require()


def test_k8_a_kernel_without_egress_hooks_is_named(fake_nft: Callable[[str], None]):
    fake_nft('case "$(cat)" in *netdev*) echo "Error: Could not process rule: Operation not supported" >&2; exit 1;; esac')
    with pytest.raises(SwitchError, match="CONFIG_NETFILTER_EGRESS"):
        Switch.require()


def test_k8_an_nft_that_hangs_is_given_up(veth: Veth, fake_nft: Callable[[str], None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kvip.kernel.nft_child.DEADLINE_S", 0.2)
    fake_nft("exec sleep 30")
    switch = Switch(clock=SystemClock())
    began = time.monotonic()
    try:
        with pytest.raises(SwitchError, match="did not end"):
            switch.install(nics=[veth.name], vips={})
    finally:
        switch.close()
    assert time.monotonic() - began < 5
