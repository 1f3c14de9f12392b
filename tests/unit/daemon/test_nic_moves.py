"""A VIP that moves to another NIC, in the kernel: the old one is left first."""

import asyncio

import msgspec
import pytest

from kvip.core import diff
from kvip.core.model import IfIndex
from tests.unit.daemon.fake_ports import API, ETH0, ETH1, OTHER, VIP, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.nic_house import bound, link_comes, settle, told, two_nics, wants
from tests.unit.daemon.turn_bench import TurnHouse


@pytest.fixture
def turns():
    return two_nics(TurnHouse())


def test_an_edit_moves_the_vip_and_the_old_nic_is_left_first(turns):
    async def story():
        turns.read(service(VIP))
        await turns.act()
        assert bound(turns) == {(VIP, ETH0.index)}
        turns.elector.heard_of.clear()
        turns.read(wants("eth1", VIP))
        did = await turns.act()
        assert bound(turns) == {(VIP, ETH1.index)}
        assert [what for what, vip in did if vip == VIP] == ["stop", "delete", "add", "start"]
        assert turns.demand.able(VIP) is True

    asyncio.run(story())


def test_the_new_nic_waits_until_the_old_one_is_left(turns):
    async def story():
        turns.read(service(VIP))
        await turns.act()
        turns.read(wants("eth1", VIP))
        turns.news = lambda: setattr(turns.facts, "doubted", True)
        did = await turns.act()
        assert "add" not in [what for what, _ in did]
        assert bound(turns) == {(VIP, ETH0.index)}
        turns.news = lambda: None
        await turns.executor.resync("test")
        await turns.act_again()
        assert bound(turns) == {(VIP, ETH1.index)}

    asyncio.run(story())


def test_a_vip_whose_nic_is_not_here_is_let_go_of(turns):
    async def story():
        turns.read(service(VIP))
        await turns.act()
        turns.read(wants("eth7", VIP))
        await turns.act()
        assert bound(turns) == set()
        assert not turns.guard.guards(VIP)

    asyncio.run(story())


def test_an_annotation_that_cannot_be_read_moves_nothing_and_lets_nothing_run_out(turns):
    async def story():
        turns.read(wants("eth1", VIP))
        await turns.act()
        turns.read(wants("a/b", VIP))
        assert await turns.act() == []
        turns.clock.advance(40)
        assert [what for what, _ in await turns.act()] == ["replace"]
        assert bound(turns) == {(VIP, ETH1.index)}

    asyncio.run(story())


def test_vips_of_two_nics_are_asked_for_on_their_own_segments(turns):
    turns.asking.unasked = {VIP, OTHER}
    turns.read(service(VIP), wants("eth1", OTHER, key=API, uid="uid-2"))
    asked = []
    turns.asking.ask = lambda vips, link: asked.append((list(vips), link.name))
    asyncio.run(turns.act(VIP, OTHER))
    assert sorted(asked) == [([VIP], "eth0"), ([OTHER], "eth1")]


def test_the_switch_takes_in_a_nic_when_its_first_vip_comes_and_what_it_lets_through_stays(turns):
    async def story():
        turns.read(service(VIP))
        await turns.act()
        assert turns.wires.renewed(turns.clock.now() + 3) == ""
        assert turns.switch.hooked == {"eth0"}
        turns.read(wants("eth1", OTHER, key=API, uid="uid-2"))
        await turns.act(OTHER)
        assert turns.switch.hooked == {"eth0", "eth1"}
        assert turns.switch.answers(VIP)
        assert turns.switch.answers(OTHER)

    asyncio.run(story())


def test_a_nic_that_the_switch_cannot_take_in_harms_nobody_else(turns):
    async def story():
        turns.read(service(VIP))
        await turns.act()
        assert turns.wires.renewed(turns.clock.now() + 3) == ""
        plain = turns.switch.install

        def install(*, nics, vips):
            if "eth1" in nics:
                turns.switch.fails = {"install"}
            try:
                plain(nics=nics, vips=vips)
            finally:
                turns.switch.fails = set()

        turns.switch.install = install
        turns.read(wants("eth1", OTHER, key=API, uid="uid-2"))
        await turns.act(OTHER)
        assert bound(turns) == {(VIP, ETH0.index)}
        assert turns.guard.problem == ""
        assert turns.switch.answers(VIP)

    asyncio.run(story())


@pytest.mark.parametrize(("placeless", "known", "withdrawn"), [(True, True, "no NIC for it here"), (True, False, ""), (False, True, "")])
def test_i5_only_what_is_known_to_have_no_nic_is_withdrawn(placeless, known, withdrawn):
    wanted = diff.Wanted(vip=VIP, known=known, claimed=True, permitted=True, link=None, placeless=placeless, announced=True)
    house = House()
    house.know(marked())
    actions = diff.plan(wanted, house.facts.bound(VIP), now=house.clock.now(), lifetime_s=60)
    assert [action.reason for action in actions if isinstance(action, diff.LetGo)] == ([withdrawn] if withdrawn else [])


def test_the_loop_itself_notices_a_nic_and_moves_what_goes_there():
    house = House()
    house.switch.nics.add("eth1")

    async def story():
        house.apply(wants("eth1", VIP))
        await asyncio.sleep(1)
        assert bound(house) == set()
        assert house.elector.heard_of
        house.links = [ETH0, ETH1]
        link_comes(house, ETH1)
        await asyncio.sleep(1)
        assert bound(house) == {(VIP, ETH1.index)}

    house.play(story)


def test_a_vlan_is_used_as_soon_as_its_device_is_there_and_an_edit_moves_on_from_it(turns):
    async def story():
        plain = service(VIP)
        notes = {**plain.metadata.annotations, "kube-vip.io/serviceVLAN": "eth0.200"}
        turns.read(msgspec.structs.replace(plain, metadata=msgspec.structs.replace(plain.metadata, annotations=notes)))
        assert await turns.act() == []
        settle(turns, VIP)
        assert "ip link add link eth0 name eth0.200 type vlan id 200" in told(turns, "NoNic")[0]
        device = msgspec.structs.replace(ETH0, index=IfIndex(80), name="vlan200", kind="vlan", parent=ETH0.index, vlan_id=200)
        link_comes(turns, device)
        turns.switch.nics.add("vlan200")
        assert turns.nics.settle()
        await turns.act()
        assert bound(turns) == {(VIP, 80)}
        turns.read(service(VIP, version="2"))
        await turns.act()
        assert bound(turns) == {(VIP, ETH0.index)}

    asyncio.run(story())
