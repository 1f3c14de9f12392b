"""Port rules that cannot be applied, were changed by someone else, or cannot be read, and what VIPs may do meanwhile."""

import asyncio

import pytest

from kvip import metrics
from kvip.daemon import firewall
from kvip.errors import SwitchError
from tests.unit.daemon.fake_ports import OTHER, VIP, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.secured_house import API_KEY, Secured, with_ports


@pytest.fixture
def house():
    return Secured()


def test_rules_that_cannot_be_applied_keep_a_new_vip_unbound_and_are_told_and_tried_again_ever_later(house):
    house.table.refuses = "out of order"

    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(60)
        assert house.kernel.ours() == set()
        assert "RulesNotApplied" in house.events.warnings
        assert any("out of order" in text and VIP in text for _, _, text in house.events.posted)
        assert len(house.table.calls) < 14
        assert house.firewall.pending_s() > 50
        house.table.refuses = ""
        await asyncio.sleep(firewall.LONGEST_RETRY_S + 1)
        assert house.kernel.ours() == {VIP}
        assert house.firewall.pending_s() == 0

    house.play(story)


def test_a_vip_that_is_held_keeps_its_former_rules_while_new_ones_cannot_be_applied(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.table.refuses = "out of order"
        house.apply(with_ports(service(VIP, version="2"), 81))
        await asyncio.sleep(60)
        assert house.kernel.ours() == {VIP}
        assert house.table.ports() == {80}
        assert house.demand.able(VIP) is True
        assert not house.firewall.secured(VIP)

    house.play(story)


def test_a_vip_whose_rules_are_gone_and_cannot_be_put_back_is_let_go_of_and_no_more_a_candidates(house):
    async def story():
        house.apply(with_ports(service(VIP), 80), with_ports(service(OTHER, key=API_KEY, uid="uid-2"), 80, ignore="true"))
        await asyncio.sleep(0.2)
        house.table.refuses, house.table.rules = "out of order", None
        house.firewall.doubt()
        await asyncio.sleep(1)
        assert house.kernel.ours() == {VIP, OTHER}, "a moment without rules moves nothing"
        await asyncio.sleep(5)
        assert house.kernel.ours() == {OTHER}
        assert house.demand.able(VIP) is False
        assert house.demand.able(OTHER) is True
        house.table.refuses = ""
        await asyncio.sleep(firewall.LONGEST_RETRY_S + 1)
        assert house.kernel.ours() == {VIP, OTHER}
        assert house.demand.able(VIP) is True

    house.play(story)


def test_rules_that_go_between_two_tries_expose_their_vips_as_soon_as_that_is_seen(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.table.refuses = "out of order"
        house.apply(with_ports(service(VIP, version="2"), 81))
        await asyncio.sleep(50)
        tries = len(house.table.calls)
        house.table.rules = None
        house.firewall.doubt()
        house.firewall._look_for_changes()
        await asyncio.sleep(0.3)
        assert len(house.table.calls) == tries
        assert house.kernel.ours() == set()
        assert house.demand.able(VIP) is False

    house.play(story)


def test_what_someone_else_changed_is_put_back_and_counted(house):
    before = metrics.service_rules_restored_total._value.get()

    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.table.rules = None
        house.firewall.doubt()
        await asyncio.sleep(0.2)
        assert house.table.vips() == {VIP}
        assert metrics.service_rules_restored_total._value.get() == before + 1
        calls = len(house.table.calls)
        house.firewall.doubt()
        await asyncio.sleep(1)
        assert len(house.table.calls) == calls, "nothing was changed"

    house.play(story)


def test_a_change_that_is_reported_while_the_table_is_written_has_it_written_again_but_not_at_full_speed(house):
    async def story():
        house.table.meanwhile = house.firewall.doubt
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(10)
        assert 5 <= len(house.table.calls) <= 15

    house.play(story)


def test_a_table_that_cannot_be_read_is_taken_for_what_it_was(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        calls = len(house.table.calls)
        house.table.unreadable = True
        house.firewall.doubt()
        await asyncio.sleep(1)
        assert len(house.table.calls) == calls
        assert house.firewall.secured(VIP)

    house.play(story)


def test_a_vip_found_silent_at_start_answers_only_after_its_rules_are_there(house):
    house.know(marked(VIP))
    house.guard.silence({VIP: "eth0"})
    house.table.meanwhile = lambda: house.log.append(("rules", ",".join(sorted(house.table.vips()))))
    house.apply(with_ports(service(VIP), 80))

    async def story():
        await asyncio.sleep(0.2)
        assert house.switch.places[VIP] == "main"

    house.play(story)
    order = [entry for entry in house.log if entry in (("rules", VIP), ("admit", ""))]
    assert order[0] == ("rules", VIP)


def test_applying_goes_on_after_a_failure_of_the_loop_itself(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.table.meanwhile = lambda: 1 / 0
        house.apply(with_ports(service(VIP, version="2"), 81))
        await asyncio.sleep(0.2)
        assert house.applying.done()
        house.table.meanwhile = lambda: None
        house.applying = asyncio.create_task(house.firewall.run())
        await asyncio.sleep(0.2)
        assert house.firewall.secured(VIP)

    house.play(story)


def test_at_the_end_the_table_is_removed_and_a_failure_is_no_obstacle(house, caplog):
    house.table.rules = object()
    house.firewall.remove()
    assert house.table.rules is None

    def broken():
        raise SwitchError("no answer")

    house.table.remove = broken
    house.firewall.remove()
    assert "kvip sweep" in caplog.text
    House().firewall.remove()
