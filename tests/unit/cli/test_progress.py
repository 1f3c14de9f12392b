"""Progress is drawn on a terminal, at a pace, and taken away; nowhere else is anything written."""

import io

import pytest

from kvip.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def drawn(stream, counts, *, step_s=1.0):
    now = iter(number * step_s for number in range(len(counts) + 1))
    with Progress("sweeping", "addresses", stream=stream, clock=lambda: next(now)) as progress:
        for count in counts:
            progress.at(count, 400)
    return stream.getvalue().split("\r\x1b[K")


def test_count_total_and_rate_on_one_line_that_goes_in_the_end():
    assert drawn(Terminal(), [0, 120, 400]) == [
        "",
        "sweeping: 0/400 addresses",
        "sweeping: 120/400 addresses, 60/s",
        "sweeping: 400/400 addresses, 133/s",
        "",
    ]


def test_no_more_than_ten_times_a_second():
    assert len(drawn(Terminal(), list(range(100)), step_s=0.01)) <= 2 + 10


def test_nothing_is_written_off_a_terminal(monkeypatch):
    assert drawn(io.StringIO(), [0, 120, 400]) == [""]
    monkeypatch.setenv("TERM", "dumb")
    assert drawn(Terminal(), [0, 120, 400]) == [""]


def test_nothing_is_taken_away_that_was_not_drawn():
    assert drawn(Terminal(), []) == [""]
