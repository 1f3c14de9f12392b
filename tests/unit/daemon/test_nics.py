"""Where VIPs go as NICs, addresses and Services change, and what follows in the kernel and for the Services."""

import asyncio
import logging

import msgspec
import pytest

from kvip.core import diff
from kvip.core.model import Address, IfIndex, Vip
from kvip.daemon.nics import SUBNET_GRACE_S
from kvip.daemon.unplaced import SETTLE_S
from tests.unit.daemon.fake_ports import API, ETH0, ETH1, OTHER, THIRD, VIP, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.turn_bench import TurnHouse

NIC = "kube-vip.io/serviceInterface"
FAR = Vip("198.51.100.7")


def wants(nic, *vips, **more):
    """A Service that names a NIC."""
    plain = service(*vips, **more)
    notes = {**plain.metadata.annotations, **({NIC: nic} if nic else {})}
    metadata = msgspec.structs.replace(plain.metadata, annotations=notes, creation_timestamp=more.get("uid", "uid-1"))
    return msgspec.structs.replace(plain, metadata=metadata)


def own(ip, link, prefix=24):
    return Address(ip=Vip(ip), prefix_len=prefix, index=link.index)


def link_comes(house, link):
    house.upkeep.on_link(link, link.index, True)


def link_goes(house, link):
    house.upkeep.on_link(None, link.index, False)


def two_nics(house):
    link_comes(house, ETH1)
    house.switch.nics.add("eth1")
    house.nics.settle()
    return house


@pytest.fixture
def house():
    return two_nics(House())


@pytest.fixture
def turns():
    return two_nics(TurnHouse())


def told(house, reason):
    return [message for why, _, message in house.events.posted if why == reason]


# -- answers ---------------------------------------------------------------------------------------------------------------


def test_each_vip_goes_where_its_service_wants_it(house):
    house.read(service(VIP), wants("eth1", OTHER, key=API, uid="uid-2"))
    assert house.nics.link(VIP) == ETH0
    assert house.nics.link(OTHER) == ETH1
    assert house.nics.used() == house.nics.announcing() == {"eth0", "eth1"}


def test_the_nic_of_the_settings_is_announced_on_even_without_vips(house):
    assert house.nics.used() == frozenset()
    assert house.nics.announcing() == {"eth0"}
    link_goes(house, ETH0)
    assert house.nics.announcing() == {"eth0"}, "it is missed, and waited for"


def test_a_nic_that_no_vip_goes_to_any_more_is_not_announced_on(house):
    house.read(wants("eth1", VIP), wants("eth1", OTHER, key=API, uid="uid-2"))
    house.delete(API)
    house.look(API)
    assert house.nics.announcing() == {"eth0", "eth1"}
    house.read(service(VIP, version="2"))
    assert house.nics.announcing() == {"eth0"}


def test_what_matters_of_a_nic_is_taken_in_and_what_does_not_is_no_change(house):
    house.read(wants("eth1", VIP))
    house.nics.settle()
    link_comes(house, msgspec.structs.replace(ETH1, carrier=False, mac=b"\2\0\0\0\0\x99"))
    link_comes(house, msgspec.structs.replace(ETH1, index=IfIndex(40), name="veth40"))
    assert not house.nics.settle()
    link_goes(house, ETH1)
    assert house.nics.settle()
    assert house.nics.link(VIP) is None
    link_comes(house, msgspec.structs.replace(ETH1, index=IfIndex(50)))
    assert house.nics.settle()
    assert house.nics.link(VIP).index == 50


def test_a_nic_that_becomes_a_port_gives_way_to_its_master(house):
    bond = msgspec.structs.replace(ETH1, index=IfIndex(60), name="bond0", kind="bond")
    house.read(service(VIP))
    assert house.nics.used() == {"eth0"}
    link_comes(house, bond)
    link_comes(house, msgspec.structs.replace(ETH0, master=bond.index))
    assert house.nics.link(VIP) == bond
    assert house.nics.used() == house.nics.announcing() == {"bond0"}


def test_by_subnet_an_address_that_is_away_for_a_moment_moves_nothing(house):
    house.know(own("198.51.100.5", ETH1))
    house.nics.doubt()
    house.read(wants("auto", FAR))
    house.nics.settle()
    house.clock.advance(3600)
    house.facts.note_gone(own("198.51.100.5", ETH1))
    house.nics.doubt()
    assert not house.nics.settle()
    house.clock.advance(SUBNET_GRACE_S - 0.1)
    assert not house.nics.settle()
    assert house.nics.link(FAR) == ETH1
    house.clock.advance(0.2)
    assert house.nics.settle()
    assert house.nics.link(FAR) is None


def test_by_subnet_an_address_that_went_with_its_nic_is_gone_at_once(house):
    house.know(own("198.51.100.5", ETH1))
    house.nics.doubt()
    house.read(wants("auto", FAR))
    house.nics.settle()
    house.facts.note_gone(own("198.51.100.5", ETH1))
    link_goes(house, ETH1)
    assert house.nics.settle()


def test_what_nobody_asks_for_any_more_or_cannot_be_read_stays_where_it_is(house):
    house.know(marked(VIP, ETH1.index))
    assert house.nics.link(VIP) == ETH1
    house.read(wants("a/b", VIP))
    assert not house.nics.placed(VIP).known
    assert house.nics.link(VIP) == ETH1


# -- the node as a candidate -----------------------------------------------------------------------------------------------


def test_a_node_without_the_nic_or_the_subnet_is_no_candidate_and_what_is_not_known_is_left_open(house):
    house.read(wants("eth7", VIP), wants("auto", FAR, key=API, uid="uid-2"), wants("a/b", OTHER, key="default/odd", uid="uid-3"))
    assert (house.demand.able(VIP), house.demand.able(FAR), house.demand.able(OTHER)) == (False, False, None)
    house.know(own("198.51.100.5", ETH1))
    house.nics.doubt()
    assert house.demand.able(FAR) is True
    link_comes(house, msgspec.structs.replace(ETH1, index=IfIndex(70), name="eth7"))
    assert house.demand.able(VIP) is True


def test_each_nic_has_a_carrier_of_its_own(house, caplog):
    caplog.set_level(logging.INFO)
    house.read(service(VIP), wants("eth1", OTHER, key=API, uid="uid-2"))
    house.demand.tick()
    link_comes(house, msgspec.structs.replace(ETH1, carrier=False))
    for _ in range(4):
        house.clock.advance(0.25)
        house.demand.tick()
    assert (house.demand.able(VIP), house.demand.able(OTHER)) == (True, False)
    assert house.demand.node_able()
    assert house.demand.holder_able()
    assert house.elector.heard_of[-1] == {VIP, OTHER}
    assert [(record.nic, record.reason) for record in caplog.records if hasattr(record, "nic")][-1:] == [("eth1", "no carrier")]
    link_comes(house, msgspec.structs.replace(ETH0, carrier=False))
    for _ in range(4):
        house.clock.advance(0.25)
        house.demand.tick()
    assert not house.demand.node_able()
    link_comes(house, ETH1)
    house.demand.tick()
    assert (house.demand.able(VIP), house.demand.able(OTHER)) == (False, True)
    assert house.demand.node_able(), "one NIC that works will do"
    assert not house.demand.holder_able(), "who holds all VIPs needs the NIC of the settings"


def test_the_holder_of_all_needs_no_nic_that_no_vip_goes_to(house):
    house.read(wants("eth1", VIP))
    link_comes(house, msgspec.structs.replace(ETH0, carrier=False))
    for _ in range(4):
        house.clock.advance(0.25)
        house.demand.tick()
    assert house.demand.holder_able()


def test_a_nic_that_never_had_a_carrier_takes_nothing_not_even_for_a_moment(house):
    link_comes(house, msgspec.structs.replace(ETH1, carrier=False))
    house.read(wants("eth1", VIP))
    house.demand.tick()
    assert house.demand.able(VIP) is False


def test_by_subnet_alone_a_node_without_vips_is_able():
    house = House(nic="auto")
    assert house.demand.node_able()
    assert house.demand.holder_able()
    assert house.nics.announcing() == frozenset()


# -- what follows in the kernel --------------------------------------------------------------------------------------------


def bound(house):
    return {(address.ip, address.index) for address in house.kernel.table.values() if address.marked}


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
        turns.executor.resync("test")
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


# -- what the Services hear ------------------------------------------------------------------------------------------------


def settle(house, *vips):
    house.wires.demand_changed(vips)
    house.clock.advance(SETTLE_S)
    house.unplaced.tick()


def test_a_service_hears_once_why_its_vip_is_bound_nowhere(house):
    house.read(wants("eth7", VIP))
    house.wires.demand_changed([VIP])
    house.unplaced.tick()
    assert told(house, "NoNic") == [], "another node may have the NIC"
    settle(house, VIP)
    settle(house, VIP)
    (message,) = told(house, "NoNic")
    assert NIC in message
    assert "'eth7' names a NIC that is not there; 192.0.2.7 is not bound on n1" in message
    house.read(wants("lo", VIP, version="2"))
    settle(house, VIP)
    assert len(told(house, "NoNic")) == 2


def test_nothing_is_said_while_another_node_holds_the_vip_or_speaks(house):
    house.read(wants("eth7", VIP))
    house.elector.held_elsewhere = {VIP}
    settle(house, VIP)
    house.elector.held_elsewhere, house.elector.mute = set(), {"uid-1"}
    settle(house, VIP)
    assert told(house, "NoNic") == []
    house.elector.mute = set()
    house.unplaced.tick()
    assert len(told(house, "NoNic")) == 1


@pytest.mark.parametrize("how", ["mended", "deleted"])
def test_what_was_mended_in_time_is_not_told(house, how):
    house.read(wants("eth7", VIP))
    house.wires.demand_changed([VIP])
    if how == "mended":
        house.read(wants("eth1", VIP, version="2"))
    else:
        house.delete()
        house.look()
    settle(house, VIP)
    assert told(house, "NoNic") == []


def test_the_younger_of_two_hears_that_the_older_chose_another_nic(house):
    house.read(wants("eth0", VIP, uid="uid-2", key=API), wants("eth1", VIP))
    assert house.nics.link(VIP) == ETH1
    (message,) = told(house, "OtherNic")
    assert "'eth0'" in message
    assert "default/web" in message
    house.read(wants("eth1", VIP, uid="uid-2", key=API, version="2"))
    assert len(told(house, "OtherNic")) == 1
    house.read(wants("eth0", VIP, uid="uid-2", key=API, version="3"))
    house.delete()
    house.look()
    assert house.nics.link(VIP) == ETH0


def test_who_names_a_port_hears_where_its_vip_goes(house):
    bond = msgspec.structs.replace(ETH1, index=IfIndex(60), name="bond0", kind="bond")
    link_comes(house, bond)
    link_comes(house, msgspec.structs.replace(ETH1, master=bond.index))
    house.read(wants("eth1", VIP), service(THIRD, key=API, uid="uid-2"))
    (message,) = told(house, "NicIsPort")
    assert "'eth1' is a port of 'bond0' on n1" in message
    assert house.nics.link(VIP) == bond


def test_the_event_names_the_nic_that_the_vip_is_on(house):
    house.read(wants("eth1", VIP))
    house.know(marked(VIP, ETH1.index))
    house.outcome.announced(VIP, house.clock.now())
    assert told(house, "VIPBound") == ["192.0.2.7 is bound and announced on n1 (eth1)"]
