"""What results mean for people: told once, by its right name, and only when confirmed."""

import logging

import pytest

from kvip import metrics
from kvip.core.diff import Adopt, LetGo, Take
from kvip.daemon.executor import Done
from tests.unit.daemon.fake_ports import API, ETH0, OTHER, VIP, WEB, marked, service, unmarked
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


def taken(house, vip=VIP):
    house.know(marked(vip))
    assert house.outcome.confirmed(Done(action=Take(vip=vip, link=ETH0)))


def let_go(house, vip=VIP, reason="no claimant", problem="", keeps=False):
    house.facts.note_gone(marked(vip))
    return house.outcome.confirmed(Done(action=LetGo(vip=vip, address=marked(vip), reason=reason, keeps=keeps), problem=problem))


def gone(house, key=WEB):
    house.delete(key)
    house.look(key)


def value(metric):
    return metric._value.get()


class Counted:
    """How much a counter grew."""

    def __init__(self, counter):
        self.counter = counter
        self.before = value(counter)

    def __call__(self):
        return value(self.counter) - self.before


def test_what_the_kernel_did_not_confirm_is_to_be_tried_again_and_nobody_is_told(house, caplog):
    house.read(service(VIP))
    caplog.set_level(logging.INFO)
    assert not house.outcome.confirmed(Done(action=Take(vip=VIP, link=ETH0), problem="errno 1"))
    assert not let_go(house, problem="errno 1")
    assert [record.getMessage() for record in caplog.records] == ["address change not confirmed; trying again"] * 2
    assert (house.events.posted, house.status.written) == ([], [])


def test_the_time_to_the_first_frame_counts_from_the_first_mark_and_once(house):
    house.read(service(VIP))
    total, count = metrics.take_seconds._sum.get(), sum(bucket.get() for bucket in metrics.take_seconds._buckets)
    house.outcome.asked(VIP, 1000.0)
    house.outcome.asked(VIP, 1002.0)
    house.outcome.announced(VIP, 1003.0)
    house.outcome.announced(VIP, 1090.0)
    assert metrics.take_seconds._sum.get() - total == pytest.approx(3.0)
    assert sum(bucket.get() for bucket in metrics.take_seconds._buckets) - count == 1


@pytest.mark.parametrize("end", ["hushed", "withdrawn", "released"])
def test_a_wait_that_ended_without_a_frame_is_not_measured(house, end):
    total = metrics.take_seconds._sum.get()
    house.outcome.asked(VIP, 1000.0)
    {"hushed": lambda: house.outcome.hushed(VIP), "withdrawn": house.outcome.withdrawn, "released": lambda: let_go(house)}[end]()
    house.outcome.announced(VIP, 1500.0)
    assert metrics.take_seconds._sum.get() == total


def measured(histogram):
    """How much was observed, and how often."""
    return histogram._sum.get(), sum(bucket.get() for bucket in histogram._buckets)


def test_the_time_to_the_end_counts_from_the_first_mark_to_the_kernels_word(house):
    house.read(service(VIP))
    taken(house)
    total, count = measured(metrics.let_go_seconds)
    house.outcome.ending(VIP, house.clock.now())
    house.clock.advance(2.0)
    house.outcome.ending(VIP, house.clock.now())
    assert not let_go(house, problem="errno 16")
    house.clock.advance(1.0)
    assert let_go(house)
    assert let_go(house)
    assert measured(metrics.let_go_seconds) == (pytest.approx(total + 3.0), count + 1)


@pytest.mark.parametrize("end", ["stays", "fenced", "hushed"])
def test_an_end_that_did_not_come_is_not_measured(house, end):
    before = measured(metrics.let_go_seconds)
    house.outcome.ending(VIP, 900.0)
    {
        "stays": lambda: house.outcome.ending(VIP, None),
        "fenced": house.outcome.withdrawn,
        "hushed": lambda: house.outcome.hushed(VIP),
    }[end]()
    assert let_go(house)
    assert measured(metrics.let_go_seconds) == before


# -- let go ------------------------------------------------------------------------------------------------------------


def test_the_services_that_asked_hear_of_the_release(house):
    swept = Counted(metrics.swept_total)
    house.read(service(VIP))
    taken(house)
    gone(house)
    assert let_go(house)
    assert house.events.told() == [("VIPReleased", "uid-1")]
    assert swept() == 0


@pytest.mark.parametrize("reason", ["no permit", "wrong NIC", "no local endpoint"])
def test_a_vip_that_goes_elsewhere_is_not_told_as_released(house, reason):
    house.read(service(VIP))
    taken(house)
    house.publisher.announced(VIP, "eth0")
    house.events.posted.clear()
    assert let_go(house, reason=reason)
    assert house.events.posted == []


def test_after_a_release_the_vip_counts_as_announced_no_more(house):
    house.read(service(VIP))
    taken(house)
    house.outcome.announced(VIP, 1001.0)
    let_go(house, reason="no permit")
    house.status.written.clear()
    house.publisher.service_changed(WEB)
    assert house.status.written == []


def test_a_stray_place_that_goes_leaves_the_vip_announced(house):
    house.read(service(VIP))
    taken(house)
    house.outcome.announced(VIP, 1001.0)
    house.status.written.clear()
    assert let_go(house, keeps=True, reason="wrong NIC")
    house.publisher.service_changed(WEB)
    assert house.status.written == [("uid-1", [VIP])]


def test_i3_a_marked_address_that_never_had_an_owner_is_counted_as_swept(house):
    swept = Counted(metrics.swept_total)
    assert let_go(house)
    assert swept() == 1
    assert house.events.posted == []


# -- what a former daemon left -----------------------------------------------------------------------------------------


def left_behind(house, *vips):
    """A former daemon's addresses, removed at start, with their claimants by its journal."""
    former = House()
    former.read(service(*vips, uid="uid-9"))
    house.outcome.found_at_start({vip: tuple(former.ledger.claimants(vip).values()) for vip in vips})


def test_an_address_left_behind_whose_service_is_gone_is_swept_with_its_former_owners_name(house, caplog):
    swept = Counted(metrics.swept_total)
    left_behind(house, VIP)
    house.outcome.report_left_over()
    assert house.events.told() == [("VIPSwept", "uid-9")]
    assert swept() == 1
    (record,) = [record for record in caplog.records if "swept" in record.getMessage()]
    assert (record.vip, record.services, record.uids) == (VIP, [WEB], ["uid-9"])


@pytest.mark.parametrize("fenced", [False, True])
def test_an_address_left_behind_that_is_taken_again_is_an_ordinary_one_from_then_on(house, fenced):
    swept = Counted(metrics.swept_total)
    left_behind(house, VIP)
    if fenced:
        house.executor.fence()
        house.outcome.withdrawn()
    house.read(service(VIP, uid="uid-9"))
    house.outcome.report_left_over()
    taken(house)
    gone(house)
    let_go(house)
    assert house.events.told() == [("VIPReleased", "uid-9")]
    assert swept() == 0


def test_what_was_removed_at_start_is_swept_once_every_service_was_read_unless_asked_for(house):
    swept = Counted(metrics.swept_total)
    left_behind(house, VIP, OTHER)
    house.read(service(OTHER, key=API, uid="uid-2"))
    house.outcome.report_left_over()
    house.outcome.report_left_over()
    assert house.events.told() == [("VIPSwept", "uid-9")]
    assert swept() == 1


def test_i7_what_the_kernel_kept_at_start_is_swept_when_it_is_gone_and_counted_once(house):
    swept = Counted(metrics.swept_total)
    left_behind(house, VIP)
    house.know(marked())
    house.outcome.report_left_over()
    assert (swept(), house.events.told()) == (0, [])
    let_go(house, problem="errno 1")
    assert swept() == 0
    let_go(house)
    house.facts.note_gone(marked())
    house.outcome.report_left_over()
    assert (swept(), house.events.told()) == (1, [("VIPSwept", "uid-9")])


# -- conflicts on this node --------------------------------------------------------------------------------------------


def test_i6_a_vip_bound_without_the_mark_is_told_once_until_it_ends(house):
    conflicts = Counted(metrics.conflicts_total)
    house.read(service(VIP))
    for _ in range(3):
        house.outcome.conflict(VIP, unmarked())
    assert house.events.told() == [("VIPConflict", "uid-1")]
    assert "eth0" in house.events.posted[0][2]
    house.outcome.no_conflict(VIP)
    house.outcome.conflict(VIP, unmarked())
    assert len(house.events.posted) == conflicts() == 2


@pytest.mark.parametrize("action", [Take, Adopt])
def test_i7_what_a_fence_withdrew_before_it_was_reported_is_not_told_as_bound(house, action, caplog):
    caplog.set_level(logging.INFO)
    house.know(marked())
    house.executor.fence()
    house.outcome.withdrawn()
    caplog.clear()
    assert house.outcome.confirmed(Done(action=action(vip=VIP, link=ETH0)))
    assert house.outcome.bound_since(VIP) is None
    house.outcome.tell(most=9, idle=True)
    assert caplog.records == []
