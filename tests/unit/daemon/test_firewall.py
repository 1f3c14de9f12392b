"""When port rules are applied, and the order of rules and addresses."""

import asyncio
import errno

import pytest

from kvip.daemon import firewall
from tests.unit.daemon.fake_ports import VIP, WEB, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.secured_house import API_KEY, Secured, with_ports


@pytest.fixture
def house():
    return Secured()


def test_k5_a_vip_is_bound_only_after_its_rules_are_in_the_kernel(house):
    house.table.meanwhile = lambda: house.log.append(("rules", ",".join(sorted(house.table.vips()))))

    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)

    house.play(story)
    assert house.pairs("rules", "add")[-2:] == [("rules", VIP), ("add", VIP)]
    assert house.table.ports() == {80}


def test_without_service_security_nothing_waits_and_nothing_is_applied():
    house = House()

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(0.01)

    house.play(story)
    assert house.kernel.ours() == {VIP}
    assert house.firewall.secured(VIP)
    assert not house.firewall.exposed(VIP)


def test_an_exempt_service_does_not_wait(house):
    house.table.refuses = "out of order"

    async def story():
        house.apply(with_ports(service(VIP), 80, ignore="true"))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {VIP}

    house.play(story)


def test_a_change_of_ports_alone_is_applied_and_the_vip_stays_bound(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.log.clear()
        house.apply(with_ports(service(VIP, version="2"), 81))
        await asyncio.sleep(0.2)
        assert house.table.ports() == {81}

    house.play(story)
    assert house.pairs("delete", "add") == []


def test_siblings_open_their_ports_together_and_the_last_to_go_takes_the_rules_along(house):
    async def story():
        house.apply(with_ports(service(VIP), 80), with_ports(service(VIP, key=API_KEY, uid="uid-2"), 81))
        await asyncio.sleep(0.2)
        assert house.table.ports() == {80, 81}
        house.delete(WEB)
        await asyncio.sleep(0.2)
        assert house.table.ports() == {81}
        house.delete(API_KEY)
        await asyncio.sleep(0.2)
        assert house.table.vips() == set()

    house.play(story)


def test_k5_the_rules_go_after_the_address(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.kernel.refuse[VIP] = errno.EBUSY
        house.delete(WEB)
        await asyncio.sleep(0.5)
        assert house.table.vips() == {VIP}, "bound still"
        house.kernel.refuse.clear()
        await asyncio.sleep(5)
        assert house.kernel.ours() == set()
        assert house.table.vips() == set()

    house.play(story)


def test_the_rules_of_a_vip_that_a_fence_removed_go_too_though_its_service_was_gone_before(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.kernel.refuse[VIP] = errno.EBUSY
        house.delete(WEB)
        await asyncio.sleep(0.2)
        house.kernel.refuse.clear()
        house.elector.fence("test")
        await asyncio.sleep(1)
        assert house.table.vips() == set()

    house.play(story)


def test_an_audit_finds_rules_of_a_service_whose_end_was_not_told(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.ledger.drop(WEB)
        house.kernel.drop(VIP)
        house.facts.note_gone(marked(VIP))
        await asyncio.sleep(70)
        assert house.table.vips() == set()

    house.play(story)


def test_changes_that_come_while_a_child_runs_go_together_with_the_next_one(house):
    async def story():
        await asyncio.sleep(0.2)
        before = len(house.table.calls)
        for number in range(50):
            house.apply(with_ports(service(f"192.0.2.{100 + number}", key=f"default/s{number}", uid=f"u{number}"), 80))
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)
        assert len(house.table.vips()) == 50
        assert len(house.table.calls) - before <= 4
        gaps = [later - earlier for earlier, later in zip(house.table.calls[before:], house.table.calls[before + 1 :], strict=False)]
        assert all(gap >= firewall.SPACING_S - 1e-6 for gap in gaps)

    house.play(story)


def test_nothing_is_applied_before_every_service_was_read_so_a_former_daemons_rules_stay(house):
    house.services.current = False

    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(2)
        assert house.table.calls == []
        house.services.current = True
        house.reconcile.wake()
        await asyncio.sleep(0.3)
        assert house.table.vips() == {VIP}

    house.play(story)


def test_with_no_service_at_all_what_a_former_daemon_left_goes(house):
    async def story():
        await asyncio.sleep(0.2)

    house.play(story)
    assert len(house.table.calls) == 1
    assert house.table.last.sizes == {}


def test_what_is_not_known_any_more_keeps_the_rules(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.services.current = False
        house.services.store.clear()
        house.reconcile.on_service(WEB)
        await asyncio.sleep(2)
        assert house.table.vips() == {VIP}

    house.play(story)


def test_a_service_made_anew_under_its_name_brings_its_own_ports(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.apply(with_ports(service(VIP, uid="uid-9"), 81))
        await asyncio.sleep(0.2)
        assert house.table.ports() == {81}
        assert b"uid-1" not in house.table.rules.document

    house.play(story)
