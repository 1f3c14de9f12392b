"""Deadlines: the soonest, and what is due, for any number of VIPs; compared with a plain table of instants."""

from hypothesis import given
from hypothesis import strategies as st

from kvip.core.deadlines import Deadlines

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
VIPS = st.sampled_from([A, B, C, "2001:db8::1"])
STEPS = st.lists(st.tuples(VIPS, st.none() | st.integers(-3, 3)), max_size=60)


def test_nothing_is_due_where_nothing_was_set():
    deadlines = Deadlines()
    assert deadlines.soonest == float("inf")
    assert deadlines.due(1e9) == []


def test_what_is_due_comes_soonest_first_and_stays_due():
    deadlines = Deadlines()
    for vip, at in ((A, 3.0), (B, 1.0), (C, 9.0)):
        deadlines.set(vip, at)
    assert deadlines.due(3.0) == [B, A]
    assert deadlines.due(3.0, most=1) == [B]
    deadlines.drop(B)
    deadlines.set(A, 20.0)
    assert deadlines.due(3.0) == []
    assert deadlines.soonest == 9.0


@given(STEPS, st.integers(-3, 3))
def test_it_says_what_a_plain_table_says(steps, by):
    deadlines, table = Deadlines(), {}
    for vip, at in steps:
        if at is None:
            deadlines.drop(vip)
            table.pop(vip, None)
        else:
            deadlines.set(vip, float(at))
            table[vip] = float(at)
        assert deadlines.soonest == min(table.values(), default=float("inf"))
        found = deadlines.due(by)
        assert sorted(found) == sorted(vip for vip, due in table.items() if due <= by)
        assert [table[vip] for vip in found] == sorted(table[vip] for vip in found)
    deadlines.clear()
    assert deadlines.due(1e9) == []


class Counted(str):
    """A VIP that counts comparisons."""

    compared = 0

    def __lt__(self, other):
        Counted.compared += 1
        return str.__lt__(self, other)


def comparisons(size):
    deadlines = Deadlines()
    for number in range(size):
        deadlines.set(Counted(f"10.0.{number >> 8}.{number & 255}"), 5.0)
    Counted.compared = 0
    deadlines.set(Counted(A), 1.0)
    assert deadlines.due(1.0) == [A]
    deadlines.drop(A)
    assert deadlines.soonest == 5.0
    return Counted.compared


def test_finding_what_is_due_does_not_compare_all_of_them():
    assert comparisons(8_000) <= comparisons(80) + 40


def test_what_is_set_anew_again_and_again_takes_no_more_room():
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(A, float(10_000 - number))
    assert len(deadlines._heap) < 200
