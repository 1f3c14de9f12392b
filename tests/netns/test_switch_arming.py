"""The dead-man's switch in time: arming (K4), and what its maps hold (K1)."""

from __future__ import annotations

import subprocess
import time

import pytest

from kvip.core.model import Vip
from kvip.errors import SwitchError
from kvip.kernel.switch import Expired, Late, Switch
from tests.netns.conftest import Veth
from tests.netns.switch_lab import StoppingClock, alive, expires_s, nft

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
VIPS = (Vip("192.0.2.7"), Vip("2001:db8::7"))


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


def test_k1_more_groups_are_loaded_while_vips_are_held_and_nothing_else_changes(veth: Veth, clock: StoppingClock):
    names = tuple(f"s{number}" for number in range(6))
    switch = Switch(clock=clock, groups=names[:2], spare=names[2:])
    try:
        switch.install(nics=[veth.name], vips={})
        switch.admit(dict.fromkeys(VIPS, veth.name), "s0")
        switch.arm_first("s0", until=clock.now() + 30)
        before = expires_s("arp", "s0")
        for name in names:
            switch.provide(name)
            assert switch.intact()
            switch.arm_first(name, until=clock.now() + 30)
        assert before is not None
        assert (expires_s("arp", "s0") or 0) > 0
        switch.admit({VIPS[0]: veth.name}, "s5")
        assert switch.contents() == {VIPS[0]: "s5", VIPS[1]: "s0"}
        grown = nft("list", "ruleset")
        whole = Switch(clock=clock, groups=names)
        whole.install(nics=[veth.name], vips={})
        whole.close()
        rules = lambda text: sorted(line for line in text.splitlines() if "elements" not in line and "expires" not in line)  # noqa: E731
        assert len(rules(nft("list", "ruleset"))) == len(rules(grown))
        switch.provide("other")
        with pytest.raises(SwitchError, match="no lease group"):
            switch.admit({VIPS[0]: veth.name}, "other")
    finally:
        subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=10)
        switch.close()
