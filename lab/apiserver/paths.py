"""What a request asks for: its path, its options, its body. Pure.

Inputs: a path, a query, bytes. Outputs: a `Target`, predicates, decoded objects; `StatusError` for what the real server refuses.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lab.apiserver.resources import RESOURCES, Resource
from lab.apiserver.selectors import Predicate, field_predicate, label_predicate
from lab.apiserver.status import Obj, StatusError, no_such_path


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a path names."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_path(path: str) -> Target:
    """Read a path of the API. Errors: 404."""
    match path.strip("/").split("/"):
        case ["api", "v1", *rest]:
            group = ""
        case ["apis", group, "v1", *rest]:
            pass
        case _:
            raise no_such_path()
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] in RESOURCES:
        namespace, rest = rest[1], rest[2:]
    resource = RESOURCES.get(rest[0]) if rest else None
    if resource is None or resource.group != group or len(rest) > 3 or "" in rest or (namespace and not resource.namespaced):
        raise no_such_path()
    name, subresource = [*rest[1:], "", ""][:2]
    if (name and resource.namespaced and not namespace) or (subresource and not (subresource == "status" and resource.has_status)):
        raise no_such_path()
    return Target(resource=resource, namespace=namespace, name=name, subresource=subresource)


def selection(query: Mapping[str, str], target: Target) -> Predicate:
    """The predicate of labelSelector, fieldSelector and the name in the path. Errors: 400."""
    labels = label_predicate(query.get("labelSelector", ""))
    fields = field_predicate(query.get("fieldSelector", ""), allowed=target.resource.selectable)
    name = target.name
    return lambda obj: name in {"", obj["metadata"]["name"]} and labels(obj) and fields(obj)


def version_of(query: Mapping[str, str]) -> int:
    """The resourceVersion option, 0 when absent. Errors: 500 for what is no number, as the real server."""
    text = query.get("resourceVersion", "")
    if text and not text.isdecimal():
        problem = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise StatusError(500, problem, reason="")
    return int(text or 0)


def number_of(query: Mapping[str, str], option: str) -> int:
    """A numeric option, 0 when absent. Errors: 400."""
    text = query.get(option) or "0"
    if not text.isdecimal():
        raise StatusError(400, f"{option}: {text!r} is not a number")
    return int(text)


def is_true(text: str | None) -> bool:
    """How the API reads a boolean option."""
    return text in {"1", "true", "True", "t"}


def decode_object(body: bytes) -> Obj:
    """A JSON object. Errors: 400."""
    try:
        return msgspec.json.decode(body, type=Obj)
    except msgspec.MsgspecError as error:
        raise StatusError(400, f"the object provided is unrecognized (must be of type Object): {error}") from error


def checked_object(given: object, target: Target) -> Obj:
    """`given` as an object of the target's kind whose metadata agrees with the path. Errors: 400."""
    resource = target.resource
    if not isinstance(given, dict) or not isinstance(given.get("metadata") or {}, dict):
        raise StatusError(400, "the object provided is unrecognized (must be of type Object)")
    kind, metadata = given.get("kind") or resource.kind, dict(given.get("metadata") or {})
    if (kind, given.get("apiVersion") or resource.api_version) != (resource.kind, resource.api_version):
        raise StatusError(400, f'{kind} in version "v1" cannot be handled as a {resource.kind}')
    if target.name and metadata.setdefault("name", target.name) != target.name:
        raise StatusError(400, f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})")
    if target.namespace and (metadata.get("namespace") or target.namespace) != target.namespace:
        raise StatusError(400, "the namespace of the provided object does not match the namespace sent on the request")
    return given | {"metadata": metadata}
