"""The schema of the settings as data: from it come flags, variables, the TOML reader and the reference.

Input: `kvip.settings.Settings`. Output: `OPTIONS`. Must not read the environment or files.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import msgspec.inspect as inspect

from kvip.settings import Settings


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A setting as the schema describes it."""

    field: str
    """Attribute of `Settings`."""
    name: str
    """Name in TOML and messages: the field with dashes, without its unit."""
    kind: Literal["text", "choice", "switch", "number", "integer"]
    help: str
    default: str | float | bool
    shown_default: str
    """What the reference shows as default."""
    alias: tuple[str, ...]
    """kube-vip's variables for it, the first set one counts."""
    unit: str
    zero: str
    """What 0 means where 0 lies outside the bounds; empty when 0 is no special value."""
    at_least: float | None
    at_most: float | None
    choices: tuple[str, ...]

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"KVIP_{self.name.replace('-', '_').upper()}"


_UNIT_SUFFIXES = ("_s", "_pps")


def _option(field: inspect.Field) -> Option:
    annotated = field.type
    assert isinstance(annotated, inspect.Metadata)
    plain, extra = annotated.type, annotated.extra or {}
    kinds: dict[type[inspect.Type], Literal["text", "choice", "switch", "number", "integer"]] = {
        inspect.StrType: "text",
        inspect.LiteralType: "choice",
        inspect.BoolType: "switch",
        inspect.FloatType: "number",
        inspect.IntType: "integer",
    }
    name = field.name
    for suffix in _UNIT_SUFFIXES:
        name = name.removesuffix(suffix)
    default = field.default
    plain_default = str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else str(default)
    return Option(
        field=field.name,
        name=name.replace("_", "-"),
        kind=kinds[type(plain)],
        help=(annotated.extra_json_schema or {})["description"],
        default=default,
        shown_default=extra["shown_default"] or f"`{plain_default}`",
        alias=extra["alias"],
        unit=extra["unit"],
        zero=extra["zero"],
        at_least=extra["at_least"],
        at_most=extra["at_most"],
        choices=tuple(str(value) for value in plain.values) if isinstance(plain, inspect.LiteralType) else (),
    )


def _options() -> tuple[Option, ...]:
    described = inspect.type_info(Settings)
    assert isinstance(described, inspect.StructType)
    return tuple(_option(field) for field in described.fields)


OPTIONS: tuple[Option, ...] = _options()
"""Every setting, in the order of `Settings`."""
