"""Lists, in pages that show one moment.

Inputs: a store, options of a List. Outputs: list objects; a page's rest is kept until it is asked for, or until newer pages push it out.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping

from lab.apiserver.paths import Target, number_of, selection, version_of
from lab.apiserver.resources import Resource
from lab.apiserver.status import Obj, StatusError, expired, future_version, invalid
from lab.apiserver.store import Store

_PAGES_KEPT = 100


def list_body(resource: Resource, items: list[Obj], *, version: int) -> Obj:
    """A list object. Its items carry neither kind nor apiVersion, as the real server's."""
    bare = [{key: value for key, value in item.items() if key not in {"kind", "apiVersion"}} for item in items]
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": {"resourceVersion": str(version)},
        "items": bare,
    }


class Lister:
    """Answers Lists and remembers the rest of those that were cut by a limit."""

    def __init__(self) -> None:
        self._rests: OrderedDict[str, tuple[int, list[Obj]]] = OrderedDict()
        self._tokens = itertools.count(1)

    def clear(self) -> None:
        """Forget all pages."""
        self._rests.clear()

    def list(self, store: Store, target: Target, query: Mapping[str, str]) -> Obj:
        """One page, or everything. Errors: 400, 410, 422, 504."""
        _check_options(query)
        limit, version = number_of(query, "limit"), store.version
        if token := query.get("continue"):
            if token not in self._rests:
                raise StatusError(400, "invalid continue token")
            version, rest = self._rests[token]
            if version < store.compacted:
                raise expired("The provided continue parameter is too old to display a consistent list result.")
        else:
            if version_of(query) > version:
                raise future_version(version_of(query), version)
            matches = selection(query, target)
            rest = [obj for obj in store.list(target.resource, target.namespace) if matches(obj)]
            if query.get("resourceVersion") == "0":
                limit = 0  # the watch cache answers, and ignores the limit
        body = list_body(target.resource, rest[:limit] if limit else rest, version=version)
        if limit and len(rest) > limit:
            token = f"page-{next(self._tokens)}"
            self._rests[token] = (version, rest[limit:])
            if len(self._rests) > _PAGES_KEPT:
                self._rests.popitem(last=False)
            body["metadata"]["continue"] = token
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                body["metadata"]["remainingItemCount"] = len(rest) - limit
        return body


def _check_options(query: Mapping[str, str]) -> None:
    if query.get("sendInitialEvents") is not None:
        raise invalid("ListOptions", "meta.k8s.io", "", "sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list")
    if query.get("resourceVersionMatch") and not query.get("resourceVersion"):
        problem = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise invalid("ListOptions", "meta.k8s.io", "", "resourceVersionMatch", problem)
