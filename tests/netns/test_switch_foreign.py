"""The dead-man's switch among others: someone else's tables and changes (K7), and what it needs (K8)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kvip.clock import SystemClock
from kvip.core.model import Vip
from kvip.errors import SwitchError
from kvip.kernel.ruleset_monitor import RulesetMonitor
from kvip.kernel.switch import Expired, Switch
from tests.netns.conftest import Veth
from tests.netns.switch_lab import StoppingClock, alive, expires_s, nft

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
VIPS = (Vip("192.0.2.7"), Vip("2001:db8::7"))


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


def test_k7_own_changes_do_not_have_everything_read_again(
    switch: Switch, veth: Veth, clock: StoppingClock, monkeypatch: pytest.MonkeyPatch
):
    assert switch.intact()
    monkeypatch.setattr(switch._tables, "objects", lambda: pytest.fail("everything was read"))
    switch.admit(dict.fromkeys(VIPS, veth.name))
    switch.arm_first("main", until=clock.now() + 30)
    for _ in range(3):
        switch.rearm("main", until=clock.now() + 30)
    switch.silence({VIPS[0]: veth.name})
    switch.remove(VIPS)
    switch.remove(VIPS)
    assert switch.intact()


@pytest.mark.parametrize("disarmed", [False, True], ids=["alive", "disarmed twice"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_k7_a_foreign_change_among_own_ones_is_seen(switch: Switch, veth: Veth, clock: StoppingClock, change: str, disarmed: bool):
    """Also beside what is no change: a group that is not alive is disarmed."""
    switch.admit(dict.fromkeys(VIPS, veth.name))
    switch.arm_first("main", until=clock.now() + 30)
    assert switch.intact()
    if disarmed:
        switch.disarm()
        switch.disarm()
    nft(change)
    with suppress(SwitchError):
        switch.rearm("main", until=clock.now() + 30)
    assert not switch.intact()


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
