"""What the API servers of the lab have in common as processes: a directory with their files, kubeconfigs, one child to stall or end.

In: an address, and how to start the child (a subclass). Out: most of the verbs of `lab.apihost.ApiHost`. It must not know which server
it is.
"""

from __future__ import annotations

import signal
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from lab.apihost import ADMIN_TOKEN, KVIP_TOKEN, Child, LabError, write_kubeconfig


class HostedApi(ABC):
    """A server on `address`:`port`; a context manager that starts it and removes all of it."""

    what: ClassVar[str]
    """Its name, for messages and for its directory."""
    grace_s: ClassVar[float] = 0.0
    """How long it may take to end; 0 = it is killed."""

    def __init__(self, address: str, port: int, *, url: str = "") -> None:
        self.address = address
        self.port = port
        self.url = url
        self.admin_token = ADMIN_TOKEN
        self.kvip_token = KVIP_TOKEN
        self.directory = Path(tempfile.mkdtemp(prefix=f"kvip-{self.what}-"))
        self.admin_kubeconfig = self.directory / "admin.kubeconfig"
        self.kvip_kubeconfig = self.directory / "kvip.kubeconfig"
        self.ca_file: Path | None = None
        self._api: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Return when the server is ready. Errors: LabError."""

    @abstractmethod
    def stop(self) -> None:
        """End everything and remove the files; may be called twice."""

    @abstractmethod
    def _start_api(self) -> None:
        """Start the child, and wait until it answers."""

    def kill_api(self) -> None:
        """End the server, which cuts all connections; its objects are kept."""
        if self._api is not None:
            self._api.stop(grace_s=self.grace_s)
            self._api = None

    def restart_api(self, *, down_s: float = 0.0) -> None:
        """End it, wait, start it again on the same address with the same objects."""
        self.kill_api()
        time.sleep(down_s)
        self._start_api()

    def stall(self, stalled: bool, /) -> None:
        """SIGSTOP or SIGCONT to the server."""
        if self._api is None:
            raise LabError(f"stall: the API server ({self.what}) does not run")
        self._api.send(signal.SIGSTOP if stalled else signal.SIGCONT)

    def log_tail(self, lines: int = 30) -> str:
        """The end of the server's log."""
        return self._api.tail(lines) if self._api else ""

    def _write_kubeconfigs(self) -> None:
        for path, token, user in ((self.admin_kubeconfig, ADMIN_TOKEN, "admin"), (self.kvip_kubeconfig, KVIP_TOKEN, "kvip")):
            write_kubeconfig(path, url=self.url, token=token, user=user, ca_file=self.ca_file)
