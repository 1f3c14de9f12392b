"""Rounds: what waits is looked at each period, of many a few at a time, and nobody is left out."""

import pytest

from kvip.clock import ManualClock
from kvip.daemon.rounds import MOST, PERIOD_S, Rounds


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def rounds(clock):
    return Rounds(clock)


def test_a_few_are_all_looked_at_once_in_each_period(rounds, clock):
    rounds.add("a")
    rounds.add("b")
    rounds.add("a")
    assert rounds.due() == ["a", "b"]
    assert rounds.due() == []
    clock.advance(PERIOD_S)
    assert rounds.due() == ["a", "b"]


def test_what_comes_after_a_period_without_anything_is_looked_at_at_once(rounds, clock):
    assert rounds.due() == []
    rounds.add("a")
    assert rounds.due() == ["a"]


def test_what_waits_no_more_is_not_looked_at(rounds, clock):
    rounds.add("a")
    rounds.add("b")
    rounds.drop("a")
    rounds.drop("never there")
    assert rounds.due() == ["b"]


def test_of_many_each_gets_its_turn_and_a_round_has_an_end(rounds, clock):
    keys = [f"key{number}" for number in range(3 * MOST + 1)]
    for key in keys:
        rounds.add(key)
    seen = []
    for _ in range(4):
        found = rounds.due()
        assert len(found) == MOST
        seen += found
        clock.advance(PERIOD_S)
    assert set(seen) == set(keys)
    assert seen[: len(keys)] == keys


def test_however_often_it_is_asked_a_period_has_one_round(rounds, clock):
    for number in range(10 * MOST):
        rounds.add(number)
    looked = 0
    for _ in range(100):
        looked += len(rounds.due())
        clock.advance(PERIOD_S / 100)
    assert looked == MOST
