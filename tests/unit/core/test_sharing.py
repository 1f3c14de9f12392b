"""Several Services on one address: the older one has the port, on every node and after every restart."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.core.desired import Wish
from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.sharing import Sharing, by_age, split

VIP, OTHER = Vip("192.0.2.7"), Vip("192.0.2.8")
WEB, API, DNS = ServiceKey("default/web"), ServiceKey("default/api"), ServiceKey("default/dns")


def wish(key, *ports, second=0, uid="", vips=(VIP,)):
    asked = frozenset(("TCP", port) if isinstance(port, int) else port for port in ports)
    created = f"2026-01-01T00:00:{second:02}Z"
    return Wish(uid=Uid(uid or key), key=key, created=created, addresses=vips, ports=asked)


def granted(sharing, vip=VIP):
    return [claimant.key for claimant in sharing.claimants(vip)]


def test_the_younger_of_two_that_want_one_port_does_not_get_the_address():
    refused = split([wish(API, 80, 443, second=2), wish(WEB, 80, second=1)]).refused
    assert {key: (clash.older, clash.port) for key, clash in refused.items()} == {API: (WEB, ("TCP", 80))}


def test_the_same_number_of_another_protocol_is_another_port():
    assert split([wish(WEB, ("TCP", 53)), wish(DNS, ("UDP", 53))]).refused == {}


def test_of_the_same_second_the_lesser_uid_is_the_older():
    assert set(split([wish(WEB, 80, uid="b"), wish(API, 80, uid="a")]).refused) == {WEB}


def test_without_a_creation_time_a_service_is_the_youngest():
    nameless = Wish(uid=Uid("0"), key=DNS, addresses=(VIP,), ports=frozenset({("TCP", 80)}))
    assert [each.key for each in by_age([nameless, wish(WEB, 80, second=9)])] == [WEB, DNS]


def test_who_is_refused_takes_no_port_from_a_third():
    refused = split([wish(WEB, 80, second=1), wish(API, 80, 443, second=2), wish(DNS, 443, second=3)]).refused
    assert set(refused) == {API}


def test_a_service_without_ports_clashes_with_nobody():
    assert split([wish(WEB, second=1), wish(API, second=2), wish(DNS, 80)]).refused == {}


def test_when_the_older_goes_or_frees_the_port_the_younger_is_served():
    sharing = Sharing()
    sharing.ask(wish(API, 80, second=2))
    assert sharing.settle() == set()
    sharing.ask(wish(WEB, 80, second=1))
    assert sharing.settle() == {API}
    assert granted(sharing) == [WEB]
    sharing.ask(wish(WEB, 81, second=1))
    assert sharing.settle() == {API}
    assert granted(sharing) == [WEB, API]
    sharing.ask(wish(WEB, 80, second=1))
    assert sharing.settle() == {API}
    sharing.drop(WEB)
    assert sharing.settle() == {API}
    assert granted(sharing) == [API]
    assert sharing.settle() == set()


def test_a_clash_on_one_address_leaves_the_others_of_the_service():
    sharing = Sharing()
    sharing.ask(wish(WEB, 80, second=1))
    younger = wish(API, 80, second=2, vips=(VIP, OTHER))
    sharing.ask(younger)
    sharing.settle()
    assert sharing.granted(younger) == (OTHER,)
    assert set(sharing.clashes_of(younger)) == {VIP}


def test_a_service_that_moves_away_frees_its_former_address():
    sharing = Sharing()
    sharing.ask(wish(WEB, 80, second=1))
    sharing.ask(wish(API, 80, second=2))
    sharing.settle()
    sharing.ask(wish(WEB, 80, second=1, vips=(OTHER,)))
    assert sharing.settle() == {API}
    assert (granted(sharing), granted(sharing, OTHER)) == ([API], [WEB])


ASKS = st.tuples(
    st.sampled_from([WEB, API, DNS]),
    st.sets(st.integers(80, 82), max_size=2),
    st.integers(0, 2),
    st.sets(st.sampled_from([VIP, OTHER]), max_size=2),
)


@settings(max_examples=settings.default.max_examples * 4 // 5)
@given(st.lists(ASKS, max_size=12), st.integers())
def test_whatever_the_order_of_events_the_outcome_is_that_of_the_last_wishes(asks, seed):
    """As after a restart, when they are read in any order."""
    living, late = Sharing(), Sharing()
    last = {}
    for key, ports, second, vips in asks:
        last[key] = wish(key, *ports, second=second, vips=tuple(sorted(vips)))
        living.ask(last[key])
        if second:
            living.settle()
    living.settle()
    order = list(last.values())
    random.Random(seed).shuffle(order)
    for each in order:
        late.ask(each)
    late.settle()
    for vip in (VIP, OTHER):
        assert granted(living, vip) == granted(late, vip)
        used = [port for claimant in living.claimants(vip) for port in claimant.ports]
        assert len(used) == len(set(used))
        asking = [each for each in last.values() if vip in each.addresses]
        assert bool(living.claimants(vip)) is bool(asking)
        if asking:
            assert by_age(asking)[0].key in granted(living, vip)
