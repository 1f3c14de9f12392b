"""Every object of a kind, asked for once: for commands that run beside no daemon.

In: an `Api`, a path, a kind. Out: its objects. It keeps nothing, and follows no change.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvip.kube.api import Api
from kvip.kube.decode import ObjectDecoder, T

PAGE_ITEMS = 500
DEADLINE_S = 10.0


async def list_all(
    api: Api, path: str, kind: type[T], *, params: Mapping[str, str] | None = None, deadline_s: float = DEADLINE_S
) -> list[T]:
    """By pages of one consistent list, each within the deadline; what cannot be decoded is left out: nothing is done for it.

    Raises ApiError when the server gives no complete answer, EnvelopeError for one that is no list.
    """
    decoder = ObjectDecoder(kind)
    found: list[T] = []
    token = ""
    while True:
        asked = {**(params or {}), "limit": str(PAGE_ITEMS), **({"continue": token} if token else {})}
        page = decoder.page(await api.get(path, params=asked, deadline_s=deadline_s))
        found += page.items
        token = page.token
        if not token:
            return found
