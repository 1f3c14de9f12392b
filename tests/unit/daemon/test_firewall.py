"""The owner of the Services' port rules: what it applies and when, and what VIPs may do meanwhile."""

import asyncio
import errno
import json

import pytest
from msgspec.structs import replace

from kvip import metrics
from kvip.core.objects import ServicePort
from kvip.daemon import firewall
from kvip.errors import SwitchError
from tests.unit.daemon.fake_ports import OTHER, VIP, WEB, marked, service
from tests.unit.daemon.house import House

API_KEY = "default/api"
CHILD_S = 0.02


class FakeTable:
    """The port of `ServiceRules`: one table, replaced by calls that take as long as a child."""

    def __init__(self):
        self.rules = None
        self.last = None
        self.calls = []
        self.running = 0
        self.refuses = ""
        self.unreadable = False
        self.meanwhile = lambda: None
        self.clock = None

    async def apply(self, rules):
        assert self.running == 0, "two at a time"
        self.running += 1
        try:
            self.calls.append(self.clock.now())
            assert len(self.calls) < 500, "applied without end"
            await asyncio.sleep(CHILD_S)
            if self.refuses:
                raise SwitchError(self.refuses)
            self.rules = self.last = rules
            self.meanwhile()
        finally:
            self.running -= 1

    def intact(self):
        if self.unreadable:
            raise SwitchError("no answer")
        return self.last is not None and self.rules is self.last

    def remove(self):
        there, self.rules = self.rules is not None, None
        return there

    def _set(self, name):
        entries = json.loads(self.rules.document)["nftables"] if self.rules else []
        found = [entry["add"]["set"] for entry in entries if "set" in entry.get("add", {})]
        return [element["elem"]["val"] for each in found if each["name"] == name for element in each.get("elem", [])]

    def ports(self):
        return {value["concat"][2] for value in self._set("ports4")}

    def vips(self):
        return set(self._set("vips4"))


def with_ports(base, *ports, ignore=None):
    annotations = dict(base.metadata.annotations or {})
    if ignore is not None:
        annotations["kube-vip.io/ignore-service-security"] = ignore
    spec = replace(base.spec, ports=tuple(ServicePort(port=port) for port in ports))
    return replace(base, metadata=replace(base.metadata, annotations=annotations), spec=spec)


class Secured(House):
    def __init__(self, **more):
        self.table = FakeTable()
        super().__init__(table=self.table, **more)
        self.table.clock = self.clock

    def play(self, story):
        async def both():
            self.applying = asyncio.create_task(self.firewall.run())
            try:
                await story()
            finally:
                self.applying.cancel()
                await asyncio.gather(self.applying, return_exceptions=True)

        super().play(both)

    def pairs(self, *calls):
        return [entry for entry in self.log if entry[0] in calls]


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


def test_a_service_made_anew_under_its_name_brings_its_own_ports(house):
    async def story():
        house.apply(with_ports(service(VIP), 80))
        await asyncio.sleep(0.2)
        house.apply(with_ports(service(VIP, uid="uid-9"), 81))
        await asyncio.sleep(0.2)
        assert house.table.ports() == {81}
        assert b"uid-1" not in house.table.rules.document

    house.play(story)


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
