"""What the kernel is being asked for: it counts as bound, and proves nothing, until the kernel says what became of it."""

from kvip.core.facts import Facts
from tests.unit.core.test_facts import VIP, address, shown

PROXYS = {"index": 9, "marked": False}


def expecting():
    facts = Facts()
    facts.expect(address(), now=100.0)
    return facts


def test_it_is_bound_as_far_as_is_known_and_counted_by_nobody():
    facts = expecting()
    assert facts.is_marked(VIP)
    assert facts.unconfirmed(VIP)
    assert (facts.marked_count(), facts.confirmed_count()) == (1, 0)


def test_the_kernel_says_that_it_is_there():
    facts = expecting()
    facts.note_bound(address(), now=101.0)
    assert not facts.unconfirmed(VIP)
    assert facts.confirmed_count() == 1


def test_a_dump_that_shows_it_is_news():
    facts = expecting()
    assert facts.replace_all([address()], now=101.0) == {VIP}
    assert not facts.unconfirmed(VIP)
    assert facts.replace_all([address()], now=102.0) == set()


def test_a_dump_that_does_not_show_it_is_news():
    facts = expecting()
    assert facts.replace_all([], now=101.0) == {VIP}
    assert not facts.is_marked(VIP)
    assert not facts.unconfirmed(VIP)
    assert facts.confirmed_count() == 0


def test_another_place_of_the_address_says_nothing_of_it():
    facts = expecting()
    facts.note_bound(address(**PROXYS), now=101.0)
    assert facts.unconfirmed(VIP)
    facts.note_gone(address())
    assert not facts.unconfirmed(VIP)
    assert facts.confirmed_count() == 0
    assert shown(facts) == {(32, 9, False)}


def test_a_foreign_address_in_its_place_is_what_is_there():
    facts = expecting()
    facts.note_bound(address(marked=False), now=101.0)
    assert not facts.unconfirmed(VIP)
    assert not facts.is_marked(VIP)
