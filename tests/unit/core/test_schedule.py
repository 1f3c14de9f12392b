"""When rounds are due, which goes first, and at what pace."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.core.schedule import (
    BURST_OFFSETS_S,
    REFRESH_GRID_S,
    REFRESHES_AT_LEAST,
    ROUND_GAP_S,
    Priority,
    TokenBucket,
    even_offsets_s,
    priority_of,
    round_due,
)


def test_a_burst_has_four_rounds_more_than_a_locktime_apart():
    due = [round_due(50.0, number, refresh_s=60.0, jitter=0.3) for number in range(4)]
    assert due == pytest.approx([50.0, 51.1, 52.2, 54.4])
    assert all(later - earlier > 1.0 for earlier, later in itertools.pairwise(BURST_OFFSETS_S))


def test_without_refresh_there_is_no_fifth_round():
    assert round_due(50.0, 4, refresh_s=0.0, jitter=0.0) is None


@settings(deadline=None, database=None)
@given(jitter=st.floats(0, 1, exclude_max=True), number=st.integers(4, 50), refresh_s=st.floats(1, 600))
def test_refreshes_come_each_interval_the_first_after_half_to_the_whole_of_it(jitter, number, refresh_s):
    first = round_due(0.0, 4, refresh_s=refresh_s, jitter=jitter)
    assert first is not None
    grid_s = min(REFRESH_GRID_S, refresh_s / REFRESHES_AT_LEAST)
    assert 0.5 * refresh_s - 1e-6 <= first - BURST_OFFSETS_S[-1] <= refresh_s + grid_s + 1e-6
    here = round_due(0.0, number, refresh_s=refresh_s, jitter=jitter)
    after = round_due(0.0, number + 1, refresh_s=refresh_s, jitter=jitter)
    assert here is not None
    assert after is not None
    assert after - here == pytest.approx(refresh_s, abs=grid_s + 1e-6)


def test_refreshes_of_many_vips_are_due_together_a_share_at_each_half_second():
    due = [round_due(number / 1_000, 4, refresh_s=60.0, jitter=number / 1_000) for number in range(1_000)]
    assert 50 <= len(set(due)) <= 64  # the second half of the interval
    assert max(due.count(at) for at in set(due)) <= 20


def test_take_overs_go_before_repeats_before_refreshes():
    assert [priority_of(n) for n in (0, 1, 3, 4, 9)] == [
        Priority.TAKE_OVER,
        Priority.REPEAT,
        Priority.REPEAT,
        Priority.REFRESH,
        Priority.REFRESH,
    ]
    assert Priority.TAKE_OVER < Priority.REPEAT < Priority.REFRESH


def test_a_full_bucket_gives_its_burst_then_its_rate():
    bucket = TokenBucket(rate_pps=100.0, burst=10, now=0.0)
    assert bucket.available(0.0) == 10
    bucket.spend(10)
    assert bucket.available(0.0) == 0
    assert bucket.wait_s(2) == pytest.approx(0.02)
    assert bucket.available(0.055) == 5
    assert bucket.available(99.0) == 10


def test_a_clock_that_steps_back_takes_no_token_away():
    bucket = TokenBucket(rate_pps=100.0, burst=10, now=5.0)
    assert bucket.available(4.0) == 10


@settings(deadline=None, database=None)
@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 100)), max_size=30))
def test_never_more_than_burst_plus_rate_leaves(steps):
    bucket, now, spent = TokenBucket(rate_pps=50.0, burst=20, now=0.0), 0.0, 0
    for pause_s, asked in steps:
        now += pause_s
        frames = min(asked, bucket.available(now))
        bucket.spend(frames)
        spent += frames
        assert spent <= 20 + 50.0 * now + 1e-6


def test_a_burst_that_was_asked_for_has_its_rounds_a_locktime_apart_and_refreshes_after_them():
    offsets_s = even_offsets_s(6)
    due = [round_due(50.0, number, refresh_s=60.0, jitter=0.0, offsets_s=offsets_s) for number in range(7)]
    assert due == pytest.approx([50.0, 51.1, 52.2, 53.3, 54.4, 55.5, 85.5])
    assert ROUND_GAP_S > 1.0


def test_what_was_announced_before_goes_after_take_overs():
    assert [priority_of(number, rounds=2, fresh=False) for number in range(3)] == [Priority.REPEAT, Priority.REPEAT, Priority.REFRESH]
