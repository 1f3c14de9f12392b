"""Log lines on stderr: one line per record, JSON or logfmt, from the standard library's logging.

Inputs: log records (constant message, fields in `extra`). Outputs: lines with ts (RFC 3339, UTC, ms), level, logger, msg,
then the fields; an exception's traceback as `error`. Must not fail on any value, must not let a value start a new line,
and must not write credentials: bearer tokens are blanked, and other libraries' loggers stay at warning or above, since
HTTP clients log headers and bodies at debug.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TextIO

import msgspec

_OWN_KEYS = ("ts", "level", "logger", "msg")
_RECORD_KEYS = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
_BEARER = re.compile(r"(?i)\bbearer\s+[\w.~+/=-]+")
# JSON leaves DEL, the C1 controls and Unicode's line separators as they are; terminals and line readers act on them.
_UNSAFE = re.compile(r"[\x7f-\x9f\u2028\u2029]")
_LOGFMT_KEY = re.compile(r"[^A-Za-z0-9_./-]")
_LOGFMT_BARE = re.compile(r"[A-Za-z0-9_.:/@+,\[\]-]+")


def _text(value: object) -> str:
    """Any object as text that UTF-8 can carry."""
    try:
        text = str(value)
    except Exception as error:  # somebody else's __str__ may raise anything, and a log call must not
        text = f"<{type(value).__name__}: str() raised {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


_encoder = msgspec.json.Encoder(enc_hook=_text)


def _json(value: object) -> str:
    """A value as JSON; what JSON cannot hold (lone surrogates, huge integers, cycles, odd keys) as text."""
    try:
        encoded = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        encoded = _encoder.encode(_text(value))
    text = encoded.decode()
    return _BEARER.sub("Bearer ***", text) if "bearer" in text.casefold() else text


@lru_cache(maxsize=512)
def _constant(text: str) -> str:
    """The same of a text that comes again and again: a message, a logger's or a field's name."""
    return _json(text)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit the message: show both rather than lose the line
        return f"{_text(record.msg)} {_text(record.args)}"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _timestamp(created_s: float) -> str:
    seconds, millis = divmod(int(created_s * 1000), 1000)
    return f"{_second(seconds)}.{millis:03d}Z"


class _Formatter(logging.Formatter):
    """Collects a record's fields as JSON texts; the two forms differ in how they are put in a line."""

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """Name -> value as JSON. A field named like one of kvip's own keys gets a trailing underscore."""
        fields = {
            "ts": f'"{_timestamp(record.created)}"',
            "level": _constant(record.levelname.lower()),
            "logger": _constant(record.name),
            "msg": _constant(_message(record)),
        }
        taken = {*_OWN_KEYS, *(["error"] if record.exc_info else []), *(["stack"] if record.stack_info else [])}
        for key, value in record.__dict__.items():
            if key not in _RECORD_KEYS:
                name = _text(key)
                while name in taken:
                    name += "_"
                taken.add(name)
                fields[name] = _json(value)
        if record.exc_info:
            fields["error"] = _json(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = _json(record.stack_info)
        return fields

    def line(self, fields: dict[str, str]) -> str:
        raise NotImplementedError

    def format(self, record: logging.LogRecord) -> str:
        return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", self.line(self.fields(record)))


class JsonFormatter(_Formatter):
    """One JSON object per line."""

    def line(self, fields: dict[str, str]) -> str:
        return "{" + ",".join(f"{_constant(key)}:{value}" for key, value in fields.items()) + "}"


class LogfmtFormatter(_Formatter):
    """key=value pairs; a value with anything unusual in it is a JSON string."""

    def line(self, fields: dict[str, str]) -> str:
        return " ".join(f"{_LOGFMT_KEY.sub('_', key) or '_'}={_logfmt(value)}" for key, value in fields.items())


def _logfmt(encoded: str) -> str:
    if encoded.startswith('"'):
        bare = encoded[1:-1]
        return bare if _LOGFMT_BARE.fullmatch(bare) else encoded
    return encoded if _LOGFMT_BARE.fullmatch(encoded) else _json(encoded)


class _Handler(logging.StreamHandler[TextIO]):
    """Told apart from other handlers, so that a second `setup` replaces the first."""


def setup(
    format: Literal["json", "logfmt"], level: str, *, stream: TextIO | None = None, loggers: Sequence[str] = ("kvip",)
) -> logging.Handler:
    """Send all log records and Python warnings to `stream` (default: stderr). A second call replaces the first.

    `level` (debug, info, warning, error) holds for `loggers` and what is below them; everything else is written from
    warning on, or from `level` where that is higher.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else LogfmtFormatter())
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
    for name in loggers:
        logging.getLogger(name).setLevel(number)
    logging.captureWarnings(True)
    return handler
