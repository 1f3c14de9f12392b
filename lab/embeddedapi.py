"""Runs the embedded API server as a child process, with the interface of the real one.

Inputs: an address of this network namespace. Outputs: a ready server, kubeconfigs, its faults and request counts. Rights are
not checked: user `kvip` may do everything, which the real server does not allow.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kvip.settings import Settings
from lab.apihost import Child, LabError, wait_until
from lab.hostedapi import HostedApi

READY_TIMEOUT_S = 20.0
REQUEST_TIMEOUT_S = 5.0
SAVE_TIMEOUT_S = 5.0


class EmbeddedApi(HostedApi):
    """`python -m lab.apiserver` on `address`:`port` (0 = a free one), plain HTTP. See `lab.apihost.ApiHost` for the verbs.

    `set_faults(stall=..., client=...)` stalls one client only. Ended, it saves the objects; its history is lost, as the real server's watch
    cache. `url` is known once it is started.
    """

    what = "embeddedapi"
    grace_s = SAVE_TIMEOUT_S

    def __init__(self, address: str = "127.0.0.1", port: int = 6443, *, bookmark_period_s: float = 60.0) -> None:
        super().__init__(address, port)
        self._bookmark_period_s = bookmark_period_s
        self._wait_file = self.directory / "listening"

    def start(self) -> None:
        """Start the process, wait until it listens, write the kubeconfigs. Errors: LabError."""
        try:
            self._start_api()
            self._write_kubeconfigs()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the process and remove its files."""
        if self._api is not None:
            self._api.stop()
            self._api = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def give_rights(self, settings: Settings) -> None:
        """This server lets everybody do everything."""

    def set_faults(self, **settings: object) -> None:
        """Change the faults named, see `lab.apiserver.faults.FaultRequest`. Errors: LabError with the server's words."""
        self._lab("PUT", "/_lab/faults", settings)

    def request_counts(self, *, client: str = "") -> dict[tuple[str, str, int], int]:
        """How often each (verb, resource, code) was asked, by everyone or by one source address."""
        rows = msgspec.convert(self._lab("GET", "/_lab/requests"), list[dict[str, str | int]])
        counts: dict[tuple[str, str, int], int] = {}
        for row in rows:
            if client in {"", row["client"]}:
                key = (str(row["verb"]), str(row["resource"]), int(row["code"]))
                counts[key] = counts.get(key, 0) + int(row["count"])
        return counts

    def reset(self, *, store: bool = False) -> None:
        """No faults, no counts; `store` also empties the cluster, as after a restore of etcd to its beginning."""
        self._lab("POST", f"/_lab/reset?store={'true' if store else 'false'}")

    def _start_api(self) -> None:
        self._wait_file.unlink(missing_ok=True)
        root = str(Path(__file__).parent.parent)
        argv = [sys.executable, "-m", "lab.apiserver", f"--host={self.address}", f"--port={self.port}"]
        argv += [f"--wait-file={self._wait_file}", f"--state-file={self.directory / 'state.json'}"]
        argv += [f"--bookmark-period={self._bookmark_period_s}"]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
        self._api = Child("embedded API server", argv, self.directory / "api.log", env=env)
        wait_until(self._wait_file.exists, "the embedded API server", children=[self._api], timeout_s=READY_TIMEOUT_S, poll_s=0.01)
        self.url = self._wait_file.read_text().strip()
        self.port = urlsplit(self.url).port or self.port

    def _lab(self, method: str, path: str, body: object = None) -> object:
        """One request to the lab's own switches."""
        connection = http.client.HTTPConnection(str(urlsplit(self.url).hostname), self.port, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request(method, path, msgspec.json.encode(body))
            answer = connection.getresponse()
            content: object = msgspec.json.decode(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise LabError(f"{method} {path}: {answer.status} {content}")
        return content
