"""JSON merge patch (RFC 7396). Pure: never changes its arguments.

A strategic merge patch is applied as a merge patch too: the two differ in lists with merge keys and in `$patch`
directives, which nothing here sends.
"""

from __future__ import annotations

import copy

from lab.apiserver.status import Obj


def merge_patch(target: object, patch: object) -> object:
    """The result of applying `patch` to `target`."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result: Obj = copy.copy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result
