"""What an administrator may have announced: what this node announces already and has a permit for, and nothing else."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from kvip.core.schedule import BURST_OFFSETS_S
from kvip.daemon.announcer import Announcement
from kvip.daemon.bursts import REMEMBERED, Bursts
from tests.unit.daemon.fake_ports import ETH0, OTHER, THIRD, VIP, service
from tests.unit.daemon.house import House
from tests.unit.daemon.viewed import parts_of


class Announced:
    """The announcer, of which a test says how many rounds left."""

    def __init__(self, *vips):
        self.items = {vip: Announcement(vip, ETH0.index, started_at=0.0) for vip in vips}
        self.asked = []

    def announces(self, vip):
        return vip in self.items

    def again(self, vip, *, rounds):
        if vip not in self.items:
            return None
        self.asked.append((vip, rounds))
        self.items[vip] = Announcement(vip, ETH0.index, started_at=0.0, offsets_s=BURST_OFFSETS_S)
        return self.items[vip]

    def under_way(self, item):
        return self.items.get(item.vip) is item


@pytest.fixture
def house():
    house = House()
    house.read(*(service(vip, key=f"default/s{number}", uid=f"uid-{number}") for number, vip in enumerate((VIP, OTHER, THIRD))))
    return house


def bursts_of(house, *announced, conflicts=()):
    parts = parts_of(house)
    parts.announcer = Announced(*announced)
    parts.permit = house.elector.permit
    parts.disputes = SimpleNamespace(watch=SimpleNamespace(conflicting=lambda vip: b"\2\0\0\0\0\x99" if vip in conflicts else None))
    return Bursts(parts), parts.announcer


def order(bursts, **fields):
    return json.loads(asyncio.run(bursts.begin(json.dumps({"rounds": 4, **fields}).encode())))


def test_all_that_is_announced_here_and_nothing_else(house):
    bursts, announcer = bursts_of(house, VIP, OTHER)
    told = order(bursts, rounds=7)
    assert announcer.asked == [(VIP, 7), (OTHER, 7)]
    assert (told["node"], told["vips"], told["rounds"], told["sent"], told["ended"], told["refused"]) == ("n1", 2, 7, 0, 0, [])


def test_without_a_permit_nothing_is_announced(house):
    bursts, announcer = bursts_of(house, VIP, OTHER, THIRD)
    house.elector.permits = False
    assert order(bursts)["vips"] == 0
    told = order(bursts, vips=[VIP])
    assert told["vips"] == 0
    assert "may not hold it now" in told["refused"][0]["reason"]
    assert announcer.asked == []


def test_what_another_node_holds_is_refused_by_its_name(house):
    bursts, announcer = bursts_of(house, VIP)
    house.elector.held_elsewhere = {OTHER}
    house.elector.permits = False
    told = order(bursts, vips=[OTHER])
    assert told["refused"] == [{"vip": OTHER, "reason": "this node may not hold it now; it is held by n2_x"}]
    assert announcer.asked == []


def test_what_is_in_the_way_of_a_vip_is_said(house):
    bursts, announcer = bursts_of(house, VIP, THIRD, conflicts={THIRD})
    told = order(bursts, vips=["203.0.113.9", OTHER, THIRD, VIP])
    reasons = {refusal["vip"]: refusal["reason"] for refusal in told["refused"]}
    assert reasons["203.0.113.9"] == "no Service asks for it"
    assert "not bound and announced here" in reasons[OTHER]
    assert "02:00:00:00:00:99" in reasons[THIRD]
    assert announcer.asked == [(VIP, 4)]
    assert told["vips"] == 1


def test_how_far_it_is(house):
    bursts, announcer = bursts_of(house, VIP, OTHER)
    name = order(bursts)["id"]
    announcer.items[VIP].number = 9
    announcer.items[OTHER].number = 1
    told = json.loads(bursts.progress(name))
    assert (told["sent"], told["ended"]) == (5, 0), "refreshes after the burst are no rounds of it"
    del announcer.items[OTHER]
    told = json.loads(bursts.progress(name))
    assert (told["sent"], told["ended"]) == (5, 3)


def test_the_latest_few_can_be_asked_about(house):
    bursts, _ = bursts_of(house, VIP)
    names = [order(bursts)["id"] for _ in range(REMEMBERED + 1)]
    assert [bursts.progress(name) is not None for name in names] == [False] + [True] * REMEMBERED
    assert bursts.progress("nonsense") is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "no order"), (b"[]", "no order"), (b'{"rounds": 4, "vip": []}', "no order"), (b'{"rounds": "x"}', "no order"),
        (b'{"rounds": 0}', "rounds, not 0"), (b'{"rounds": 61}', "rounds, not 61"),
        (b'{"rounds": 1, "vips": ["10.0.0.2OO"]}', "10.0.0.2OO"),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_carried_out_is_refused(house, text, word):
    bursts, announcer = bursts_of(house, VIP)
    with pytest.raises(ValueError, match=word):
        asyncio.run(bursts.begin(text))
    assert announcer.asked == []
