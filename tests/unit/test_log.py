"""Log lines: their form, what any value does to them, and what must not get into them."""

import io
import json
import logging
import re
import warnings

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.log import JsonFormatter, LogfmtFormatter, setup

LOGFMT_PAIR = re.compile(r'(?P<key>[A-Za-z0-9_./-]+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)')


@pytest.fixture
def stream():
    """A stream to log to; logging is put back as it was."""
    names = ("", "kvip", "other")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = list(logging.getLogger().handlers)
    yield io.StringIO()
    for handler in set(logging.getLogger().handlers) - set(handlers):
        logging.getLogger().removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


def record(message="vip bound", *args, exc_info=None, **extra):
    made = logging.getLogger("kvip.x").makeRecord("kvip.x", logging.INFO, __file__, 1, message, args, exc_info, extra=extra)
    made.created = 1767225600.9996
    return made


def parse_json(line):
    """The fields of a line that must be one line to everybody."""
    assert line.splitlines() == [line]
    pairs = json.loads(line, object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys))
    line.encode()
    return json.loads(line)


def parse_logfmt(line):
    assert line.splitlines() == [line]
    line.encode()
    fields, at = {}, 0
    while at < len(line):
        match = LOGFMT_PAIR.match(line, at)
        assert match, line[at:]
        text = match["value"]
        fields[match["key"]] = json.loads(text) if text.startswith('"') else text
        at = match.end()
    return fields


def failure(error):
    try:
        raise error
    except type(error) as caught:
        return (type(caught), caught, caught.__traceback__)


def test_json_line_has_its_keys_in_order():
    line = JsonFormatter().format(record(vip="192.0.2.7", took_s=0.25, nodes=["a", "b"]))
    assert line == (
        '{"ts":"2026-01-01T00:00:00.999Z","level":"info","logger":"kvip.x","msg":"vip bound",'
        '"vip":"192.0.2.7","took_s":0.25,"nodes":["a","b"]}'
    )


def test_logfmt_line():
    line = LogfmtFormatter().format(record(vip="2001:db8::7", why="not ours", none=None, empty="", nested={"a": 1}))
    assert line == (
        'ts=2026-01-01T00:00:00.999Z level=info logger=kvip.x msg="vip bound" vip=2001:db8::7 why="not ours" none=null empty="" '
        'nested="{\\"a\\":1}"'
    )


def test_message_arguments_are_put_in():
    assert parse_json(JsonFormatter().format(record("%d of %s", 1, "two")))["msg"] == "1 of two"


def test_arguments_that_do_not_fit_lose_nothing():
    assert parse_json(JsonFormatter().format(record("%d frames", "many")))["msg"] == "%d frames ('many',)"


def test_an_exception_becomes_one_field():
    fields = parse_json(JsonFormatter().format(record(exc_info=failure(ValueError("a\nb")))))
    assert fields["error"].startswith("Traceback")
    assert fields["error"].endswith("ValueError: a\nb")


def test_fields_named_like_own_keys_are_kept_beside_them():
    fields = parse_json(JsonFormatter().format(record(ts=1, level=2, logger=3, error=4, error_=5, exc_info=failure(OSError("x")))))
    assert fields["level"] == "info"
    assert (fields["ts_"], fields["level_"], fields["logger_"]) == (1, 2, 3)
    assert sorted(value for key, value in fields.items() if key.startswith("error_")) == [4, 5]
    assert "OSError: x" in fields["error"]


def test_an_error_field_without_an_exception_keeps_its_name():
    assert parse_json(JsonFormatter().format(record(error="refused")))["error"] == "refused"


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


class Point(msgspec.Struct):
    x: int


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (Point(x=1), {"x": 1}),
        (Unprintable(), "<Unprintable: str() raised RuntimeError>"),
        (OSError(2, "gone"), "[Errno 2] gone"),
        ("a\udcff", "a\\udcff"),
        (float("nan"), None),
        (2**70, 2**70),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (CYCLE, "[[...]]"),
        ({1: {"a": Unprintable()}}, {"1": {"a": "<Unprintable: str() raised RuntimeError>"}}),
    ],
    ids=["struct", "unprintable", "exception", "surrogate", "nan", "huge", "odd-key", "cycle", "nested"],
)
def test_values_that_json_does_not_know(value, logged):
    fields = parse_json(JsonFormatter().format(record(value=value)))
    assert fields["value"] == logged or fields["value"] == str(logged)


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.binary(),
        st.text(),
        st.text(alphabet=st.characters(codec=None, categories=("Cs", "Cc", "Zl", "Zp", "Lu"))),
        st.sampled_from([2**70, -(2**70), Unprintable(), object(), OSError("x"), CYCLE, int]),
        st.complex_numbers(),
        st.datetimes(timezones=st.timezones()),
        st.sampled_from(["a\nlevel=error", 'x" y=1', "bearer x", "Bearer abc.def\n", "\u2028", "\x85", "\x1b[2J"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.none(), st.tuples(st.text())), inner, max_size=3),
    ),
    max_leaves=6,
)
KEYS = st.text(alphabet=st.characters(codec=None), max_size=12).filter(
    lambda key: key not in record().__dict__ and key not in ("message", "asctime", "taskName")
)


@given(message=st.text(alphabet=st.characters(codec=None)), extra=st.dictionaries(KEYS, ANYTHING, max_size=3))
def test_any_value_gives_one_valid_line(message, extra):
    made = logging.getLogger("kvip.x").makeRecord("kvip.x", logging.INFO, "", 1, "%s", (message,), None, extra=extra)
    fields = parse_json(JsonFormatter().format(made))
    assert len(fields) == 4 + len(extra)
    assert fields["level"] == "info"
    pairs = parse_logfmt(LogfmtFormatter().format(made))
    assert pairs["level"] == "info"
    assert {"ts", "logger", "msg"} <= pairs.keys()


def test_bearer_tokens_are_blanked():
    made = record(
        "sent %s", "Authorization: Bearer abc.def-1", headers={"authorization": "bearer s3cret"}, exc_info=failure(OSError("Bearer zzz"))
    )
    for line in (JsonFormatter().format(made), LogfmtFormatter().format(made)):
        assert not [token for token in ("abc.def", "s3cret", "zzz") if token in line]
        assert line.count("Bearer ***") == 3


def test_setup_writes_lines_of_the_chosen_level(stream):
    setup("json", "warning", stream=stream)
    logging.getLogger("kvip.daemon").info("quiet")
    logging.getLogger("kvip.daemon").warning("heard")
    assert [parse_json(line)["msg"] for line in stream.getvalue().splitlines()] == ["heard"]


def test_setup_keeps_other_libraries_at_warning_when_debugging(stream):
    setup("logfmt", "debug", stream=stream)
    logging.getLogger("other").debug("body: secret")
    logging.getLogger("other").info("request")
    logging.getLogger("other").warning("trouble")
    logging.getLogger("kvip").debug("detail")
    assert [parse_logfmt(line)["msg"] for line in stream.getvalue().splitlines()] == ["trouble", "detail"]


def test_setup_holds_for_the_loggers_named(stream):
    setup("json", "info", stream=stream, loggers=("other",))
    logging.getLogger("other").info("heard")
    assert "heard" in stream.getvalue()


def test_a_second_setup_replaces_the_first(stream):
    setup("json", "info", stream=io.StringIO())
    setup("json", "info", stream=stream)
    logging.getLogger("kvip").info("once")
    assert stream.getvalue().count("\n") == 1


def test_python_warnings_become_lines(stream):
    setup("json", "info", stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old\nthing", DeprecationWarning, stacklevel=1)
    fields = parse_json(stream.getvalue().rstrip("\n"))
    assert fields["logger"] == "py.warnings"
    assert "old\nthing" in fields["msg"]


def test_setup_writes_to_stderr_by_default(stream, capsys):
    setup("json", "info")
    logging.getLogger("kvip").error("here")
    assert parse_json(capsys.readouterr().err.rstrip("\n"))["msg"] == "here"


def test_an_unknown_level_is_an_error(stream):
    with pytest.raises(KeyError):
        setup("json", "loud", stream=stream)
