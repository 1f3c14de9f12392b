"""One process on a machine of the lab that is started, stopped, killed and frozen from outside.

In: a namespace, a command, a log file. Out: `LabProcess`: start, SIGTERM, SIGKILL, SIGSTOP and SIGCONT, each with a deadline. It outlives
nobody: closing it ends it, whatever its state. Must not: know what the process ought to do.
"""

from __future__ import annotations

import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from lab.netns import LabError, NetNamespace


class LabProcess:
    """One command on one machine; a context manager that starts it and makes sure that it is gone. The log outlives a restart."""

    def __init__(self, what: str, ns: NetNamespace, *, log_path: pathlib.Path, env: Mapping[str, str]) -> None:
        """`what`: how messages call it."""
        self._what = what
        self._ns = ns
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_end = False
        self._started_s = 0.0
        self.log_path = log_path
        self.env = dict(env)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _command(self) -> Sequence[str]:
        """What to run on the machine."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it; also after its end, with the same log."""
        if self.running:
            raise LabError(f"{self._what} runs already")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._asked_to_end = False
        self._started_s = time.monotonic()
        with open(self.log_path, "ab") as log_file:
            self._process = subprocess.Popen(
                self._ns.command(*self._command()),
                env=self.env, cwd=self.log_path.parent, stdin=subprocess.DEVNULL, stdout=log_file, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def age_s(self) -> float:
        """Seconds since its last start."""
        return time.monotonic() - self._started_s

    @property
    def pid(self) -> int:
        """The process id (nsenter has become the command). `LabError` before the first start."""
        if self._process is None:
            raise LabError(f"{self._what} was never started")
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative = killed by that signal, None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def ended_by_itself(self) -> bool:
        """Did it end though nobody here killed or stopped it?"""
        return self._process is not None and not self.running and not self._asked_to_end

    def _signal(self, number: signal.Signals) -> None:
        if not self.running or self._process is None:
            raise LabError(f"{self._what} does not run (exit {self.returncode}); {self.log_path} ends: {self._log_tail()}")
        self._process.send_signal(number)

    def kill9(self) -> None:
        """SIGKILL, and wait until the kernel has ended it."""
        self._asked_to_end = self.running
        self._signal(signal.SIGKILL)
        self.wait_exit(5.0)

    def stop(self, *, deadline_s: float = 5.0) -> float:
        """SIGTERM; the seconds until it ended. `LabError` after `deadline_s` (with SIGKILL), or at an exit code other than 0."""
        began = time.monotonic()
        self._asked_to_end = self.running
        self._signal(signal.SIGTERM)
        code = self.wait_exit(deadline_s)
        if code != 0:
            raise LabError(f"{self._what} ended with {code} at SIGTERM; {self.log_path} ends: {self._log_tail()}")
        return time.monotonic() - began

    def wait_exit(self, timeout_s: float) -> int:
        """Wait for the end; its exit code. `LabError` (and SIGKILL) after `timeout_s`."""
        if self._process is None:
            raise LabError(f"{self._what} was never started")
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5.0)
            raise LabError(f"{self._what} still ran after {timeout_s:g} s, killed; log ends: {self._log_tail()}") from None

    def freeze(self) -> None:
        """SIGSTOP: as a starved or paused machine."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it whatever its state (frozen too); idempotent."""
        self._asked_to_end = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # SIGKILL ends a stopped process as well
            self._process.wait(5.0)

    def _log_lines(self) -> list[str]:
        if not self.log_path.exists():
            return []
        return [line for line in self.log_path.read_text(errors="replace").splitlines() if line.strip()]

    def _log_tail(self, lines: int = 15) -> str:
        return "\n".join(["", *self._log_lines()[-lines:]])
