"""Marks: each VIP once, by the time of its first mark; what is to go comes first; what may yet be asked for waits."""

import pytest

from kvip.daemon.marks import Marks

A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"


class Scene:
    def __init__(self):
        self.ending = set()
        self.claimed = {A, B, C, D}
        self.asked = 0
        self.marks = Marks(ends=self._ends, claimed=self.claimed.__contains__)

    def _ends(self, vip):
        self.asked += 1
        return vip in self.ending


@pytest.fixture
def scene():
    return Scene()


def test_each_vip_comes_once_with_the_instant_of_its_first_mark(scene):
    scene.marks.add([A, B], now=1.0)
    scene.marks.add([B, A, C], now=2.0)
    assert scene.marks.take(most=9, reading=False) == {A: 1.0, B: 1.0, C: 2.0}
    assert not scene.marks
    assert scene.marks.take(most=9, reading=False) == {}


def test_so_many_at_a_time_in_the_order_of_their_marks(scene):
    scene.marks.add([C, A, B], now=1.0)
    assert list(scene.marks.take(most=2, reading=False)) == [C, A]
    assert scene.marks
    assert list(scene.marks.take(most=2, reading=False)) == [B]


def test_i2_what_is_to_go_comes_before_all_else(scene):
    scene.marks.add([A, B, C], now=1.0)
    scene.ending = {D}
    scene.marks.add([D], now=2.0)
    assert list(scene.marks.take(most=1, reading=False)) == [D]


def test_i2_what_waits_to_be_bound_and_is_to_go_by_a_later_mark_comes_first_with_its_first_instant(scene):
    scene.marks.add([A, B, C], now=1.0)
    scene.ending = {C}
    scene.marks.add([C], now=2.0)
    assert scene.marks.take(most=1, reading=False) == {C: 1.0}
    assert list(scene.marks.take(most=9, reading=False)) == [A, B]


def test_i5_what_nobody_asks_for_waits_until_every_service_was_read(scene):
    scene.ending = {A}
    scene.claimed.difference_update({A, B})
    scene.marks.add([A, B, C], now=1.0)
    assert list(scene.marks.take(most=9, reading=True)) == [C]
    assert not scene.marks
    assert scene.marks.take(most=9, reading=False) == {A: 1.0, B: 1.0}


def test_what_waits_and_is_asked_for_after_all_comes_by_its_next_mark(scene):
    scene.claimed.discard(A)
    scene.marks.add([A], now=1.0)
    assert scene.marks.take(most=9, reading=True) == {}
    scene.claimed.add(A)
    scene.marks.add([A], now=2.0)
    assert scene.marks.take(most=9, reading=True) == {A: 1.0}
    assert scene.marks.take(most=9, reading=False) == {}


@pytest.mark.parametrize("size", [10, 1_000])
def test_a_mark_is_judged_once_however_many_wait(scene, size):
    scene.marks.add([f"10.1.{n >> 8}.{n & 255}" for n in range(size)], now=1.0)
    scene.marks.take(most=1, reading=False)
    scene.asked = 0
    scene.marks.add([A], now=2.0)
    scene.marks.take(most=2, reading=False)
    assert scene.asked == 1


def test_what_is_unhurried_comes_beside_what_changed_and_never_instead(scene):
    scene.marks.add_unhurried([A, B], now=1.0)
    scene.marks.add([C, D], now=2.0)
    assert len(scene.marks) == 2
    assert list(scene.marks.take(most=1, beside=1, reading=False)) == [C, A]
    assert list(scene.marks.take(most=1, beside=0, reading=False)) == [D]
    assert len(scene.marks) == 0
    assert scene.marks.waiting
    assert list(scene.marks.take(most=1, beside=9, reading=False)) == [B]
    assert not scene.marks.waiting


def test_i2_what_is_to_go_does_not_wait_among_the_unhurried(scene):
    scene.marks.add_unhurried([A, B, C], now=1.0)
    scene.ending = {C}
    scene.marks.add([C], now=2.0)
    scene.marks.add_unhurried([C], now=3.0)
    assert scene.marks.take(most=1, beside=0, reading=False) == {C: 2.0}
    assert list(scene.marks.take(most=9, beside=9, reading=False)) == [A, B]


def test_i5_of_the_unhurried_too_what_nobody_asks_for_waits_until_every_service_was_read(scene):
    scene.claimed.discard(A)
    scene.marks.add_unhurried([A, B], now=1.0)
    assert list(scene.marks.take(most=9, beside=9, reading=True)) == [B]
    assert not scene.marks.waiting
    assert list(scene.marks.take(most=9, beside=9, reading=False)) == [A]


def test_an_audit_asks_nothing_about_each_of_its_vips(scene):
    scene.marks.add_unhurried([A, B, C, D], now=1.0)
    assert scene.asked == 0


def test_marking_asks_nothing_and_sorting_asks_of_so_many_at_a_time(scene):
    scene.marks.add([A, B, C], now=1.0)
    assert scene.asked == 0
    assert len(scene.marks) == 3
    assert scene.marks.waiting
    assert scene.marks.sort(most=2)
    assert scene.asked == 2
    assert not scene.marks.sort(most=2)
    assert scene.asked == 3
    assert scene.marks.take(most=9, reading=False) == {A: 1.0, B: 1.0, C: 1.0}


def test_what_is_to_go_comes_first_although_it_was_not_sorted_before_the_take(scene):
    scene.ending = {D}
    scene.marks.add([A, B, C, D], now=1.0)
    scene.marks.sort(most=1)
    assert list(scene.marks.take(most=1, reading=False)) == [D]


def test_a_mark_that_waits_to_be_sorted_keeps_its_first_instant_and_is_no_second_one(scene):
    scene.marks.add([A], now=1.0)
    scene.marks.add([A], now=2.0)
    scene.marks.add_unhurried([A], now=3.0)
    assert len(scene.marks) == 1
    assert scene.marks.take(most=9, beside=9, reading=False) == {A: 1.0}
    assert not scene.marks.waiting


def test_what_is_renewed_comes_by_itself_and_holds_up_nothing(scene):
    scene.marks.add_renewals([A, B, C], now=1.0)
    assert len(scene.marks) == 0
    assert scene.marks.waiting
    assert scene.marks.take(most=9, beside=9, reading=False) == {}
    assert scene.marks.take_renewals(most=2, reading=False) == {A: 1.0, B: 1.0}
    assert scene.marks.take_renewals(most=2, reading=False) == {C: 1.0}
    assert not scene.marks.waiting


@pytest.mark.parametrize("first", ["renewal", "other"])
@pytest.mark.parametrize("other", ["add", "add_unhurried"])
def test_what_may_have_changed_or_is_audited_is_no_mere_renewal(scene, first, other):
    def renewal():
        scene.marks.add_renewals([A], now=1.0)

    def change():
        getattr(scene.marks, other)([A], now=2.0)

    for mark in (renewal, change) if first == "renewal" else (change, renewal):
        mark()
    assert list(scene.marks.take(most=9, beside=9, reading=False)) == [A]
    assert scene.marks.take_renewals(most=9, reading=False) == {}
    assert not scene.marks.waiting


def test_i5_of_what_is_renewed_too_what_nobody_asks_for_waits_until_every_service_was_read(scene):
    scene.claimed.discard(A)
    scene.marks.add_renewals([A, B], now=1.0)
    assert scene.marks.take(most=9, reading=True) == {}
    assert list(scene.marks.take_renewals(most=9, reading=True)) == [B]
    assert list(scene.marks.take(most=9, reading=False)) == [A]
