import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.kube.stream import LineSplitter, LineTooLongError


@given(st.binary(max_size=400).map(lambda raw: raw.replace(b"a", b"\n")), st.lists(st.integers(0, 400), max_size=20))
def test_any_chunking_gives_the_same_lines(raw, cuts):
    splitter = LineSplitter()
    bounds = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    lines = [line for start, end in itertools.pairwise(bounds) for line in splitter.feed(raw[start:end])]
    *complete, rest = raw.split(b"\n")
    assert lines == [line for line in complete if line]
    assert splitter.held_bytes == len(rest)


def test_a_line_of_many_mib_passes():
    splitter = LineSplitter()
    part = b"x" * (1 << 20)
    for _ in range(40):
        assert splitter.feed(part) == []
    assert [len(line) for line in splitter.feed(b"\n")] == [40 << 20]


def test_a_line_beyond_the_limit_is_refused():
    splitter = LineSplitter(limit_bytes=10)
    assert splitter.feed(b"0123456789") == []
    with pytest.raises(LineTooLongError):
        splitter.feed(b"0")
