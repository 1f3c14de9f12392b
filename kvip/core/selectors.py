"""Label selectors, and the two annotations about nodes that are written with them.

Input: text from users, labels. Output: requirements, and whether labels meet them. Errors: ValueError that says what is wrong.
Grammar and meaning: k8s.io/apimachinery/pkg/labels (Parse, Requirement.Matches), without its `<` and `>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

LONGEST = 4_096
"""Characters; more is no selector that anybody wrote."""
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_KEY = rf"(?:{_DOMAIN}/)?{_NAME}"
_VALUE = re.compile(rf"(?:{_NAME})?")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*(\S*)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_NODE = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One term: all terms of a selector must be met."""

    key: str
    operator: Literal["in", "notin", "exists", "absent"]
    values: frozenset[str] = frozenset()


Selector = tuple[Requirement, ...]


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """Which nodes come first: these, in this order, or those that match, all alike."""

    names: tuple[str, ...] = ()
    selector: Selector = ()


def parse(text: str) -> Selector:
    """Requirements of `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Raises ValueError."""
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    return tuple(_requirement(term) for term in _terms(text))


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Do these labels meet every requirement? As in Kubernetes, `!=` and `notin` are met by a label that is not there."""
    return all(_met(requirement, labels) for requirement in selector)


def parse_preference(text: str) -> Preference:
    """Node names in order, or a label selector where the text has one of `= ! (`. Raises ValueError."""
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    if any(sign in text for sign in "=!("):
        return Preference(selector=parse(text))
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not _NODE.fullmatch(name):
            raise ValueError(f"is neither a label selector nor a list of Node names: {_shown(name)} can be no Node's name")
    return Preference(names=tuple(dict.fromkeys(names)))


def tiers(preference: Preference, labels: Mapping[str, Mapping[str, str]]) -> tuple[frozenset[str], ...]:
    """The nodes that come first, second, ..., given the labels of every node."""
    if preference.selector:
        return (frozenset(matching(preference.selector, labels)),)
    return tuple(frozenset({name}) for name in preference.names)


def matching(selector: Selector, labels: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    """The nodes whose labels meet the selector."""
    return (name for name, each in labels.items() if matches(selector, each))


def _terms(text: str) -> Iterator[str]:
    """Split at the commas outside parentheses."""
    begin = depth = 0
    for place, sign in enumerate(text):
        if sign == "," and not depth:
            yield text[begin:place].strip()
            begin = place + 1
        depth += (sign == "(") - (sign == ")")
    yield text[begin:].strip()


def _requirement(term: str) -> Requirement:
    if found := _SET.fullmatch(term):
        key, operator, values = found[1], found[2], frozenset(value.strip() for value in found[3].split(","))
        return Requirement(key=key, operator="in" if operator == "in" else "notin", values=_checked(values, term))
    if found := _EQUAL.fullmatch(term):
        return Requirement(key=found[1], operator="notin" if found[2] == "!=" else "in", values=_checked(frozenset({found[3]}), term))
    if found := _EXISTS.fullmatch(term):
        return Requirement(key=found[2], operator="absent" if found[1] else "exists")
    raise ValueError(f"is no label selector: {_shown(term)} cannot be read")


def _checked(values: frozenset[str], term: str) -> frozenset[str]:
    for value in values:
        if not _VALUE.fullmatch(value):
            raise ValueError(f"is no label selector: {_shown(term)} has a value that no label can have")
    return values


def _met(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "in":
            return value is not None and value in requirement.values
        case "notin":
            return value is None or value not in requirement.values
        case "exists":
            return value is not None
        case "absent":
            return value is None


def _shown(text: str) -> str:
    """Quoted, of bounded length: a sign that cannot be printed takes up to ten."""
    quoted = repr(text[:40])
    return quoted if len(quoted) <= 60 else f"{quoted[:60]}..."
