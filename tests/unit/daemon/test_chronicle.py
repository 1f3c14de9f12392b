"""The latest changes: bounded, one entry for what happens to many, and noted by whoever confirms them."""

from datetime import UTC, datetime

import pytest

from kvip.clock import ManualClock
from kvip.core.diff import Adopt, LetGo, Take
from kvip.core.ledger import Claimant, Ledger
from kvip.daemon.chronicle import LOOKED_BACK, MOST, NAMED, TOGETHER_S, Chronicle
from kvip.daemon.executor import Done
from kvip.observe.state import Instants
from tests.unit.daemon.fake_ports import ETH0, OTHER, THIRD, VIP, WEB, marked, service, unmarked
from tests.unit.daemon.house import House


def told(chronicle, clock):
    return chronicle.view(Instants(now=clock.now(), wall=datetime(2026, 1, 1, 12, tzinfo=UTC)))


class Kept:
    """A chronicle of its own."""

    def __init__(self):
        self.clock = ManualClock()
        self.chronicle = Chronicle(self.clock, Ledger())

    def view(self):
        return told(self.chronicle, self.clock)


@pytest.fixture
def kept():
    return Kept()


def test_the_oldest_go_when_there_are_too_many(kept):
    for number in range(MOST + 5):
        kept.chronicle.note("fenced", detail=str(number))
    assert [one.detail for one in kept.view()] == [str(number) for number in range(5, MOST + 5)]


def test_what_happens_to_many_at_once_is_one_entry_of_each_kind(kept):
    for number in range(10_000):
        kept.chronicle.note("bound", f"10.0.{number >> 8}.{number & 255}", detail="eth0")
        kept.chronicle.note("announced", f"10.0.{number >> 8}.{number & 255}", detail="eth0")
    bound, announced = kept.view()
    assert (bound.change, len(bound.vips), bound.more) == ("bound", NAMED, 10_000 - NAMED)
    assert (announced.change, announced.vips[:2]) == ("announced", ("10.0.0.0", "10.0.0.1"))


def test_what_happens_to_one_vip_keeps_its_order(kept):
    for change in ("bound", "released", "bound", "bound"):
        kept.chronicle.note(change, VIP)
        kept.chronicle.note(change, OTHER)
    assert [(one.change, one.vips) for one in kept.view()] == [(change, (VIP, OTHER)) for change in ("bound", "released", "bound", "bound")]


def test_what_comes_after_a_fence_is_an_entry_of_its_own(kept):
    kept.chronicle.note("bound", VIP)
    kept.chronicle.fenced("renew deadline")
    kept.chronicle.note("bound", OTHER)
    assert [one.change for one in kept.view()] == ["bound", "fenced", "bound"]


def test_an_entry_says_when_it_began_and_when_its_last_change_came(kept):
    kept.chronicle.note("bound", VIP)
    kept.clock.advance(4)
    kept.chronicle.note("bound", OTHER)
    kept.clock.advance(1)
    (one,) = kept.view()
    assert (one.at, one.until) == ("2026-01-01T11:59:55.000Z", "2026-01-01T11:59:59.000Z")


@pytest.mark.parametrize("other", ["another cause", "another kind", "later", "the whole daemon"])
def test_what_differs_is_an_entry_of_its_own(kept, other):
    kept.chronicle.note("released", VIP, detail="no claimant")
    if other == "later":
        kept.clock.advance(TOGETHER_S)
    vip = None if other == "the whole daemon" else OTHER
    kept.chronicle.note(
        "bound" if other == "another kind" else "released", vip, detail="no permit" if other == "another cause" else "no claimant"
    )
    assert len(kept.view()) == 2


def test_only_the_latest_entries_are_looked_through(kept):
    kept.chronicle.note("bound", VIP)
    for number in range(LOOKED_BACK):
        kept.chronicle.note("conflict", THIRD, detail=str(number))
    kept.chronicle.note("bound", OTHER)
    assert [one.vips for one in kept.view() if one.change == "bound"] == [(VIP,), (OTHER,)]


def test_that_this_node_may_hold_is_noted_once_until_a_fence(kept):
    for _ in range(3):
        kept.chronicle.able()
    kept.chronicle.fenced("renew deadline")
    kept.chronicle.able()
    assert [(one.change, one.detail) for one in kept.view()] == [("able", ""), ("fenced", "renew deadline"), ("able", "")]


def test_who_asked_is_told_also_when_nobody_does_any_more(kept):
    kept.chronicle.note("released", VIP, former=[Claimant(uid="u", service=WEB)])
    assert kept.view()[0].services == (WEB,)


# -- who notes what ----------------------------------------------------------------------------------------------------


@pytest.fixture
def house():
    return House()


def changes(house):
    return [(one.change, *one.vips, one.services, one.detail) for one in told(house.chronicle, house.clock)]


def test_the_life_of_a_vip(house):
    house.read(service(VIP))
    house.know(marked())
    house.outcome.confirmed(Done(action=Take(vip=VIP, link=ETH0)))
    house.outcome.tell(most=9, idle=True)
    house.outcome.announced(VIP, 1000.0)
    house.outcome.announced(VIP, 1060.0)
    house.delete()
    house.look()
    house.facts.note_gone(marked())
    house.outcome.confirmed(Done(action=LetGo(vip=VIP, address=marked(), reason="no claimant")))
    assert changes(house) == [
        ("bound", VIP, (WEB,), "eth0"),
        ("announced", VIP, (WEB,), "eth0"),
        ("released", VIP, (WEB,), "no claimant"),
    ]


def test_a_vip_whose_frame_left_at_once_is_announced_and_nothing_else(house):
    house.read(service(VIP))
    house.know(marked())
    house.outcome.announced(VIP, 1000.0)
    house.outcome.confirmed(Done(action=Take(vip=VIP, link=ETH0)))
    house.outcome.tell(most=9, idle=True)
    assert [change for change, *_ in changes(house)] == ["announced"]


def test_i7_what_the_kernel_did_not_confirm_did_not_happen(house):
    house.read(service(VIP))
    house.outcome.confirmed(Done(action=Take(vip=VIP, link=ETH0), problem="errno 1"))
    house.outcome.confirmed(Done(action=LetGo(vip=VIP, address=marked(), reason="no claimant"), problem="errno 1"))
    assert changes(house) == []


def test_a_stray_place_that_goes_is_no_release(house):
    house.read(service(VIP))
    house.outcome.confirmed(Done(action=LetGo(vip=VIP, address=marked(), reason="wrong NIC", keeps=True)))
    assert changes(house) == []


def test_a_vip_that_goes_to_another_node_is_told_with_its_services(house):
    house.read(service(VIP))
    house.outcome.confirmed(Done(action=LetGo(vip=VIP, address=marked(), reason="no permit")))
    assert changes(house) == [("released", VIP, (WEB,), "no permit")]


def test_what_a_former_daemon_left(house):
    house.outcome.found_at_start({VIP: (Claimant(uid="u", service=WEB),)})
    house.outcome.report_left_over()
    house.outcome.confirmed(Done(action=LetGo(vip=OTHER, address=marked(OTHER), reason="no claimant")))
    house.read(service(VIP))
    house.know(marked())
    house.outcome.confirmed(Done(action=Adopt(vip=VIP, link=ETH0)))
    house.outcome.tell(most=9, idle=True)
    assert changes(house) == [
        ("swept", VIP, (WEB,), "left behind by a former daemon"),
        ("swept", OTHER, (), "nobody is known to have asked for it"),
        ("adopted", VIP, (WEB,), "eth0"),
    ]


def test_an_address_without_the_mark_is_told_once_until_it_ends(house):
    house.read(service(VIP))
    for _ in range(3):
        house.outcome.conflict(VIP, unmarked())
    assert changes(house) == [("conflict", VIP, (WEB,), "on eth0 of this node without kvip's mark")]


def test_what_the_election_reports(house):
    house.read(service(VIP))
    assert house.wires.renewed(house.clock.now() + 3) == ""
    assert house.wires.renewed(house.clock.now() + 4) == ""
    house.wires.withdrawn([VIP], [], stale=False)
    house.wires.fenced("renew deadline")
    house.caches.retry_now = lambda: None
    house.wires.heard(False)  # One Lease was refused for a while: the API server answered all along.
    house.wires.heard(True)
    assert [(change, *vips, detail) for change, *vips, _, detail in changes(house)] == [
        ("able", ""),
        ("withdrawn", VIP, "its Lease is not held any more"),
        ("fenced", "renew deadline"),
        ("api-back", ""),
    ]


def test_what_the_kernel_refuses(house):
    house.read(service(VIP))
    house.elector.refuse = lambda vip: None
    house.wires.refused(VIP, "errno 105")
    assert changes(house) == [("refused", VIP, (WEB,), "errno 105")]
