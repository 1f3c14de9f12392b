"""A lab whose node n1 holds so many VIPs from the start, and what is recorded there: addresses as they come, objects as they change.

In: a number of Services, all there before the daemon starts. Out: a `Cluster` whose VIPs are bound on n1, and n2 to stand by. Recorders
note times only; what they recorded is read after the event, so that they take little of the CPU that is measured.

Over 300 lines: the crowd, and the recorders that every suite with daemons uses.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import msgspec
import pytest

from kvip.core.election.heartbeat import name_of as heartbeat_of
from kvip.core.election.heartbeat import node_of
from kvip.core.election.records import CLAIMS, number_in
from kvip.core.model import Vip
from kvip.kernel import codec
from kvip.kernel.batches import DumpInterrupted
from lab.apihost import ApiHost
from lab.apiserver.resources import RESOURCES
from lab.apiserver.store import Store
from lab.cluster import CLAIMS as CLAIMS_MODE
from lab.cluster import SERVICES, Cluster, now
from lab.embeddedapi import EmbeddedApi
from lab.lan import API_IP, Lan, api_ip
from lab.netns import LabError, NetNamespace
from lab.node import NodeProcess
from lab.realapi import RealApi
from lab.sniffer import Worker

SETTLE_S = 7.0
"""A lease duration and a retry period after its start a daemon may take what is free."""
_RTMGRP_IPV4_IFADDR = 0x10
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


def vip(number: int) -> Vip:
    """The address that Service `number` asks for: none that a machine of the LAN has."""
    return Vip(f"10.64.{number >> 8}.{number & 255}")


def poll(check: Callable[[], bool], what: str, *, timeout_s: float, period_s: float = 0.25) -> None:
    """Wait until true, looking seldom: a look at 10,000 VIPs takes CPU from what is measured. Raises LabError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise LabError(f"did not happen within {timeout_s:g} s: {what}")
        time.sleep(period_s)


class Crowd:
    """`count` Services; a context manager."""

    def __init__(self, count: int, *, api: str = "embedded", mode: str = CLAIMS_MODE) -> None:
        """`api`: "real" for etcd and kube-apiserver (`make assets`). `mode`: of the election."""
        self.count = count
        self._mode = mode
        self._kind = api
        self._undo = ExitStack()
        self.fill_s = 0.0
        """From the start of n1's daemon to the last VIP bound."""

    def __enter__(self) -> Crowd:
        with ExitStack() as undo:
            self.lan = undo.enter_context(Lan(2))
            self.api: ApiHost = undo.enter_context(self._host())
            work_dir = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="kvip-crowd-")))
            self.cluster = Cluster(self.lan, self.api, work_dir=work_dir, env={"KVIP_PROBE": "false", "KVIP_ELECTION": self._mode})
            undo.callback(self.cluster.stop)
            self.cluster.register_nodes()
            if self._kind == "real":
                with Hand(self.api) as hand:
                    for number in range(1, self.count + 1):
                        hand.create(f"web{number}", vip(number))
            self.holder, self.other = self.cluster.nodes["n1"], self.cluster.nodes["n2"]
            began = now()
            self.holder.start()
            self._wait_full()
            self.fill_s = now() - began
            self.holder.wait_ready(30)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo.close()

    def _host(self) -> EmbeddedApi | RealApi:
        if self._kind == "real":
            return RealApi(API_IP)
        embedded = EmbeddedApi(API_IP)
        self._seed(embedded.directory / "state.json")
        return embedded

    def _seed(self, path: Path) -> None:
        """The Services, as the API server would have saved them."""
        store = Store()
        for number in range(1, self.count + 1):
            store.create(RESOURCES["services"], Cluster.service(f"web{number}", vip(number)), "default")
        path.write_bytes(msgspec.json.encode(store.state()))

    def _wait_full(self) -> None:
        def full() -> bool:
            try:
                return len(self.holder.vips()) >= self.count
            except DumpInterrupted:  # addresses are still being added
                return False

        poll(full, f"{self.count} VIPs bound", timeout_s=60 + self.count / 20)

    def stand_by(self) -> None:
        """n2 takes part, long enough to know who holds what; what n1 holds stays there."""
        if not self.other.running:
            self.other.start()
            self.other.wait_ready(30)
            time.sleep(SETTLE_S)

    def requests(self, node: NodeProcess) -> dict[tuple[str, str], int]:
        """How many requests of each (verb, resource) a node has made. Errors: LabError with the real API server, which does not count."""
        if not isinstance(self.api, EmbeddedApi):
            raise LabError("only the embedded API server counts requests by client")
        counts: dict[tuple[str, str], int] = {}
        for (verb, resource, _), count in self.api.request_counts(client=api_ip(node.node)).items():
            counts[verb, resource] = counts.get((verb, resource), 0) + count
        return counts

    def rest(self, *, limit_s: float) -> None:
        """Until n1's daemon has written all status, which it does as fast as it can; its Events are paced and may go on."""
        began, before = time.monotonic(), -1.0
        while time.monotonic() - began < limit_s:
            written = sum(
                value
                for sample, value in self.holder.metrics().items()
                if sample.startswith("kvip_api_requests_total") and "PATCH" in sample
            )
            if written == before and (written > 0 or self.count == 0):
                return
            before = written
            time.sleep(1.0)

    def wait_quiet(self, *, limit_s: float) -> None:
        """Until n1's daemon has posted all its Events, which are paced at 20/s, at most 2,048 of them waiting."""

        def posted() -> float:
            return sum(value for sample, value in self.holder.metrics().items() if sample.startswith("kvip_events_total{"))

        deadline, before = time.monotonic() + limit_s, -1.0
        while (now_posted := posted()) != before:
            if time.monotonic() > deadline:
                raise LabError(f"Events were still being posted after {limit_s:g} s")
            before = now_posted
            time.sleep(3.0)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used (proc(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mib(pid: int) -> float:
    """What a process has in memory, MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MIB


class AddressTap(Worker):
    """When the kernel of a machine announced each new IPv4 address; a context manager."""

    def __init__(self, space: NetNamespace) -> None:
        super().__init__(f"addresses of {space.name}")
        self._datagrams: list[tuple[float, bytes]] = []
        self._socket = space.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        self._socket.bind((0, _RTMGRP_IPV4_IFADDR))
        self._socket.setblocking(False)

    def __enter__(self) -> AddressTap:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        self._socket.close()

    def _body(self) -> None:
        while not self._stopping:
            self._poll(self._socket.fileno(), None)
            try:
                while True:
                    data = self._socket.recv(65_536)
                    self._datagrams.append((now(), data))
            except BlockingIOError:
                pass

    @property
    def count(self) -> int:
        """How many notifications there were."""
        self.check()
        return len(self._datagrams)

    def added(self) -> dict[Vip, float]:
        """The first time of each."""
        self.check()
        found: dict[Vip, float] = {}
        for at, data in self._datagrams:
            for message in codec.messages(data):
                address = codec.decode_address(message) if message.type == codec.RTM_NEWADDR else None
                if address is not None:
                    found.setdefault(address.ip, at)
        return found


def connect(api: ApiHost, *, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the API server, to be kept."""
    target = urlsplit(api.url)
    host = str(target.hostname)
    if target.scheme == "https":
        context = ssl.create_default_context(cafile=str(api.ca_file) if api.ca_file else None)
        return http.client.HTTPSConnection(host, target.port, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(host, target.port, timeout=timeout_s)


class Hand:
    """Makes and deletes Services over one connection, so that the tool takes little of the CPU that is measured; a context manager."""

    def __init__(self, api: ApiHost) -> None:
        self._connection = connect(api, timeout_s=30)
        self._headers = {"Authorization": f"Bearer {api.admin_token}", "Content-Type": "application/json"}

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def create(self, name: str, address: Vip) -> None:
        """A Service that asks for this address."""
        self._request("POST", SERVICES, msgspec.json.encode(Cluster.service(name, address)))

    def delete(self, name: str) -> None:
        """The Service of this name goes."""
        self._request("DELETE", f"{SERVICES}/{name}", None)

    def _request(self, method: str, path: str, body: bytes | None) -> None:
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if not 200 <= answer.status < 300:
            raise LabError(f"{method} {path}: {answer.status} {content[:200]!r}")


class WatchTap:
    """What a bare watch of the API server shows from now on, and when; a context manager."""

    def __init__(self, api: ApiHost, path: str) -> None:
        self._connection = connect(api, timeout_s=120)
        self._connection.request(
            "GET", f"{path}?watch=true&allowWatchBookmarks=true", headers={"Authorization": f"Bearer {api.admin_token}"}
        )
        self._response = self._connection.getresponse()
        self._lines: list[tuple[float, bytes]] = []
        self._thread = threading.Thread(target=self._read, name=f"watch {path}", daemon=True)

    def __enter__(self) -> WatchTap:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection.sock is not None:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._connection.close()

    def _read(self) -> None:
        try:
            while line := self._response.readline():
                self._lines.append((now(), line))
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass  # closed from outside

    def events(self) -> list[tuple[float, str, dict[str, object]]]:
        """(time, type, object), in order."""
        decoded = [(at, json.loads(line)) for at, line in self._lines]
        return [(at, event["type"], event["object"]) for at, event in decoded if event["type"] != "BOOKMARK"]

    def created(self) -> dict[str, float]:
        """By name: when it was shown first."""
        found: dict[str, float] = {}
        for at, kind, item in self.events():
            if kind == "ADDED":
                found.setdefault(item["metadata"]["name"], at)  # type: ignore[index]
        return found

    def beats(self, node: str) -> list[float]:
        """When each heartbeat of this node was shown."""
        return [at for at, _, item in self.events() if item["metadata"]["name"] == heartbeat_of(node)]  # type: ignore[index]

    def won(self, lease: str, node: str) -> float:
        """When this Lease first named this node as its holder. Raises LabError when it never did."""
        for at, _, item in self.events():
            metadata, spec = item["metadata"], item["spec"]
            if metadata["name"] == lease and node_of(spec.get("holderIdentity") or "") == node:  # type: ignore[index, attr-defined]
                return at
        raise LabError(f"Lease {lease} never named {node}")

    def claimed(self, node: str) -> dict[Vip, float]:
        """By VIP: when a claim record first named an incarnation of this node as its holder."""
        found: dict[Vip, float] = {}
        for at, _, item in self.events():
            metadata: dict[str, dict[str, str]] = item["metadata"]  # type: ignore[assignment]
            if number_in(str(metadata["name"])) is None:
                continue
            for incarnation, vips in json.loads(metadata.get("annotations", {}).get(CLAIMS, "{}")).items():
                if node_of(incarnation) == node:
                    for each in vips:
                        found.setdefault(Vip(each), at)
        return found


def crowds(*short: int, long: Sequence[int] = (), mode: str = CLAIMS_MODE) -> pytest.MarkDecorator:
    """Run the test in crowds of these sizes; in the long ones with --all only."""
    sizes = [pytest.param((size, mode), id=f"{size}-vips") for size in short]
    sizes += [pytest.param((size, mode), id=f"{size}-vips", marks=pytest.mark.long) for size in long]
    return pytest.mark.parametrize("crowd", sizes, indirect=True, scope="session")
