"""What every API server of the lab offers to a test: an address, two users with kubeconfigs, and ways to hurt it.

Inputs: a command to run. Outputs: child processes that never outlive the process that started them, kubeconfig files.
Here is only what `lab.realapi` and `lab.embeddedapi` share; nothing here knows which of the two it serves.
Children inherit the network namespace of the caller.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from kvip.errors import KvipError
from kvip.settings import Settings

ADMIN_TOKEN = "lab-admin-token"
KVIP_TOKEN = "lab-kvip-token"


class LabError(KvipError):
    """The lab itself failed: a process did not start, an asset is missing."""


class ApiHost(Protocol):
    """An API server that a scenario starts, uses and breaks."""

    url: str
    admin_token: str
    """Token of a user who may do everything."""
    kvip_token: str
    """Token of user `kvip`: on the real server only what kvip's role grants."""
    admin_kubeconfig: Path
    kvip_kubeconfig: Path
    ca_file: Path | None
    """What verifies the server; None for plain HTTP."""

    def start(self) -> None:
        """Return when the server is ready. Errors: LabError with the end of its log."""

    def stop(self) -> None:
        """End everything and remove the files; may be called twice."""

    def give_rights(self, settings: Settings) -> None:
        """User `kvip` has what these settings need, and no other right any more."""

    def restart_api(self, *, down_s: float = 0.0) -> None:
        """Kill the server, leave it down for `down_s`, start it on the same address with the same objects; return when ready."""

    def kill_api(self) -> None:
        """Kill the server and leave it down; `restart_api` brings it back."""

    def stall(self, stalled: bool, /) -> None:
        """Freeze or wake the server process: connections stay open, the kernel accepts new ones, nothing answers."""

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that the server wrote."""


class Child:
    """A child process with a log file, killed when this process dies, however it dies.

    A small shell holds the read end of a pipe whose write end is only here: at our death it reads end-of-file and kills
    the child. PR_SET_PDEATHSIG would kill it with the *thread* that forked it (prctl(2)), so a start from a worker thread would not last.
    """

    def __init__(self, name: str, argv: Sequence[str], log_path: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("ab") as log_file:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log_path.parent,
                env=env,
            )
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -KILL "$1"', "reaper", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the child itself."""
        return self._process.pid

    def running(self) -> bool:
        """True until the child has ended."""
        return self._process.poll() is None

    def send(self, signum: signal.Signals) -> None:
        """Send a signal, if the child still runs."""
        if self.running():
            self._process.send_signal(signum)

    def stop(self, *, grace_s: float = 0.0) -> None:
        """SIGTERM and at most `grace_s` of patience, then SIGKILL (at once for 0)."""
        if self.running() and grace_s > 0:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
        if self.running():
            self._process.kill()
        self._process.wait(10)
        self._reaper.kill()
        self._reaper.wait(10)
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()

    def tail(self, lines: int = 30) -> str:
        """The last lines of the child's output."""
        try:
            text = self.log_path.read_bytes()[-65_536:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def wait_until(check: Callable[[], bool], what: str, *, children: Sequence[Child], timeout_s: float, poll_s: float = 0.05) -> None:
    """Poll until `check` holds. Errors: LabError with the children's logs after `timeout_s`, or as soon as one has ended."""
    deadline = time.monotonic() + timeout_s
    while not check():
        dead = [child for child in children if not child.running()]
        late = time.monotonic() > deadline
        if dead or late:
            why = f"{dead[0].name} ended" if dead else f"no success within {timeout_s:g} s"
            logs = "\n".join(f"--- {child.name}\n{child.tail()}" for child in children)
            raise LabError(f"waiting for {what}: {why}\n{logs}")
        time.sleep(poll_s)


def write_kubeconfig(path: Path, *, url: str, token: str, user: str, ca_file: Path | None = None) -> Path:
    """Write a kubeconfig with one context (JSON is YAML); `ca_file` is what verifies the server, None for plain HTTP."""
    cluster = {"server": url} | ({"certificate-authority": str(ca_file)} if ca_file else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    }
    path.write_bytes(msgspec.json.encode(config))
    os.chmod(path, 0o600)
    return path
