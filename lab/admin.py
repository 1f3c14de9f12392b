"""One request to the API server as its administrator, from the current namespace.

In: an API host, a method, a path, an object. Out: status and decoded answer. It must not retry or interpret.
"""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

Json = dict[str, Any]
TIMEOUT_S = 10.0


def request(
    url: str, method: str, path: str, body: Json | None = None, *, token: str = "", ca_file: Path | None = None
) -> tuple[int, Json]:
    """(status, decoded body; {} when it is not JSON). A PATCH is a merge patch. Raises OSError when nobody answers."""
    target = urlsplit(url)
    host = str(target.hostname)
    connection: http.client.HTTPConnection
    if target.scheme == "https":
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        connection = http.client.HTTPSConnection(host, target.port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, target.port, timeout=TIMEOUT_S)
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        connection.request(method, path, msgspec.json.encode(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, msgspec.json.decode(content, type=Json) if is_json else {}
