"""Helpers with a contract of their own."""

import pytest

from kvip.aliases import parse_bool
from kvip.checks import parse_listen


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (":2112", ("", 2112)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::]:9", ("::", 9)),
        ("localhost:0", ("localhost", 0)),
        ("a.b:65535", ("a.b", 65535)),
    ],
)
def test_parse_listen(text, parts):
    assert parse_listen(text) == parts


def test_parse_bool_knows_nothing_but_gos_words():
    assert [parse_bool(text) for text in ("1", "F", "", "TrUe", "on")] == [True, False, None, None, None]
