"""One `kvip manager` process on a node of the lab, and the view of that node from outside.

In: a `Lan`, the node's name, a kubeconfig and settings. Out: `NodeProcess`: start, kill, freeze, stop, readiness, metrics, log
lines, and the addresses that carry kvip's mark. All calls block, each with a deadline: from a coroutine use
`asyncio.to_thread`, or an API server in the same loop cannot answer meanwhile.

Must not: know what kvip ought to do, or leave a process behind when closed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import socket
import sys
import time
from collections.abc import Mapping

from kvip.core.model import Address, packed
from kvip.kernel.batches import AddressSocket
from lab.lan import Lan
from lab.netns import LabError
from lab.process import LabProcess

METRICS_PORT = 2112
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "KVIP_NO_EXTENSIONS")


class NodeProcess(LabProcess):
    """The daemon of one node; a context manager that starts it and makes sure that it is gone.

    `env` is added to the default settings (an empty value removes one). The state directory and the log outlive a restart.
    """

    def __init__(self, lan: Lan, node: str, *, kubeconfig: str | os.PathLike[str], work_dir: str | os.PathLike[str],
                 env: Mapping[str, str] | None = None) -> None:  # fmt: skip
        work = pathlib.Path(work_dir)
        super().__init__(f"kvip on {node}", lan.ns(node), log_path=work / node / "kvip.log", env={})
        self.node = node
        self.launcher: tuple[str, ...] = ()
        """A command that becomes the daemon, for instance in a mount namespace of its own."""
        self.arguments: tuple[str, ...] = ()
        """Flags of the daemon's command line."""
        self.state_dir = work / node / "state"
        self.env = {
            **{key: os.environ[key] for key in _INHERITED if key in os.environ},
            "PYTHONPATH": str(REPOSITORY),
            "KUBECONFIG": os.fspath(kubeconfig),
            "KVIP_STATE_DIR": str(self.state_dir),
            "vip_interface": "eth0",
            "vip_nodename": node,
            "vip_arp": "true",
            "svc_enable": "true",
            "vip_leaseduration": "5",
            "vip_renewdeadline": "3",
            "vip_retryperiod": "1",
            "prometheus_server": f":{METRICS_PORT}",
            **(env or {}),
        }
        self.env = {key: value for key, value in self.env.items() if value}

    def _command(self) -> tuple[str, ...]:
        return (*self.launcher, sys.executable, "-m", "kvip", "manager", *self.arguments)

    def start(self) -> None:
        """Start the daemon; also after its end, with the same state directory and log."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        super().start()

    def get(self, path: str, *, port: int = METRICS_PORT, timeout_s: float = 2.0) -> tuple[int, str]:
        """GET from the daemon on the node, by default from its metrics address: status and body. `OSError` when nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        connection.sock = self._ns.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(timeout_s)
            connection.sock.connect(("127.0.0.1", port))
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def wait_ready(self, timeout_s: float = 10.0) -> float:
        """Poll /readyz until it answers 200; the seconds that took. `LabError` when the daemon ends or the time is over."""
        began = time.monotonic()
        answer = "no answer"
        while time.monotonic() - began < timeout_s:
            if not self.running:
                raise LabError(f"kvip on {self.node} ended with {self.returncode}; log ends: {self._log_tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, body = self.get("/readyz")
                if status == http.client.OK:
                    return time.monotonic() - began
                answer = f"{status} {body.strip()[:300]}"
            time.sleep(0.02)
        raise LabError(f"kvip on {self.node} not ready after {timeout_s:g} s (/readyz: {answer}); log ends: {self._log_tail()}")

    def metrics(self) -> dict[str, float]:
        """/metrics as sample -> value; a sample is spelled as exposed: `kvip_vips{state="bound"}`."""
        status, body = self.get("/metrics")
        if status != http.client.OK:
            raise LabError(f"/metrics on {self.node}: {status}")
        samples = (line.rpartition(" ") for line in body.splitlines() if line and not line.startswith("#"))
        return {sample: float(value) for sample, _, value in samples}

    def logs(self) -> list[dict[str, object]]:
        """The log lines of all runs; what is no JSON object (a traceback) comes as {"unparsed": line}."""
        return [_log_record(line) for line in self._log_lines()]

    def marked_addresses(self) -> list[Address]:
        """The addresses on the node that carry kvip's mark, from the kernel; whether the daemon runs or not."""

        def dump() -> list[Address]:
            with AddressSocket() as addresses:
                return addresses.dump()

        return [address for address in self._ns.call(dump) if address.marked]

    def vips(self) -> list[str]:
        """The marked addresses as text, IPv4 first, in numeric order."""
        found = (address.ip for address in self.marked_addresses())
        return [str(vip) for vip in sorted(found, key=lambda vip: (len(packed(vip)), packed(vip)))]


def _log_record(line: str) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict):
            return record
    return {"unparsed": line}
