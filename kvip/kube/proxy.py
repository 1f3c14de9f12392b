"""What the kube-proxy of this node says of itself.

In: nothing. Out: its mode. Its metrics server listens on 127.0.0.1:10249 unless told otherwise (pkg/proxy/apis/config/v1alpha1).
"""

from __future__ import annotations

import http.client

PORT = 10249
DEADLINE_S = 1.0


def mode() -> str:
    """`iptables`, `ipvs` or `nftables`. Raises OSError where nothing, or something else, answers within a second."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/proxyMode")
        answer = connection.getresponse()
        text = answer.read(32).decode("ascii", errors="replace").strip()
        if answer.status != 200 or not text.isalnum():
            raise OSError(f"port {PORT} answers {answer.status}")
    except http.client.HTTPException as error:
        raise OSError(f"port {PORT}: {type(error).__name__}") from error
    finally:
        connection.close()
    return text
