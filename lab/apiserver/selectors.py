"""Label and field selectors, as predicates on objects. Pure.

Grammar: k8s.io/apimachinery/pkg/labels (without gt and lt) and pkg/fields; an error is a 400 as from the real server.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lab.apiserver.status import Obj, StatusError

Predicate = Callable[[Obj], bool]

_KEY = r"(?:[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?)"
_SET = re.compile(rf"^(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_COMPARE = re.compile(rf"^(?P<key>{_KEY})\s*(?P<op>==|=|!=)\s*(?P<value>[-A-Za-z0-9_.]*)$")
_EXISTS = re.compile(rf"^(?P<absent>!)?\s*(?P<key>{_KEY})$")
_TERMS = re.compile(r",(?![^(]*\))")


def label_predicate(selector: str) -> Predicate:
    """A predicate for `a=b,c!=d,e in (f,g),h notin (i),j,!k`; empty = everything."""
    return _all([_label_term(term.strip()) for term in _TERMS.split(selector)] if selector.strip() else [])


def field_predicate(selector: str, *, allowed: frozenset[str]) -> Predicate:
    """A predicate for `metadata.name=x,spec.type!=y`; a field that is not in `allowed` is a 400."""
    return _all([_field_term(term.strip(), allowed) for term in selector.split(",")] if selector.strip() else [])


def _all(terms: list[Predicate]) -> Predicate:
    return lambda obj: all(term(obj) for term in terms)


def _labels(obj: Obj) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _label_term(term: str) -> Predicate:
    if found := _SET.match(term):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["op"] == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    if found := _COMPARE.match(term):
        key, value = found["key"], found["value"]
        if found["op"] == "!=":
            return lambda obj: _labels(obj).get(key) != value
        return lambda obj: _labels(obj).get(key) == value
    if found := _EXISTS.match(term):
        key = found["key"]
        if found["absent"]:
            return lambda obj: key not in _labels(obj)
        return lambda obj: key in _labels(obj)
    raise StatusError(400, f"unable to parse requirement: {term!r}")


def _field_term(term: str, allowed: frozenset[str]) -> Predicate:
    path, operator, value = re.match(r"^([^=!]*)(==|=|!=)?(.*)$", term).groups()  # type: ignore[union-attr]  # always matches
    if operator is None:
        raise StatusError(400, f"invalid selector: {term!r}; can't understand {term!r}")
    if path not in allowed:
        raise StatusError(400, f"field label not supported: {path}")
    keys = path.split(".")

    def field_is(obj: Obj) -> bool:
        here: object = obj
        for key in keys:
            here = here.get(key) if isinstance(here, dict) else None
        return ("" if here is None else str(here)) == value

    return field_is if operator != "!=" else lambda obj: not field_is(obj)
