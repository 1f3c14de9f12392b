"""Reviews: who a client is, and whether it may do something. Nothing of them is stored.

Inputs: a path, a review. Outputs: the review with its answer: everybody is `lab` and may do everything, as this server has it.
"""

from __future__ import annotations

from lab.apiserver.status import Obj

_ANSWERS: dict[str, Obj] = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {"allowed": True},
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": {"userInfo": {"username": "lab", "groups": ["system:authenticated"]}},
}


def is_review(method: str, path: str) -> bool:
    """Is this a request for a review?"""
    return method == "POST" and path in _ANSWERS


def answered(path: str, review: Obj) -> Obj:
    """The review with its status."""
    return review | {"metadata": {}, "status": _ANSWERS[path]}
