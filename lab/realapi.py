"""Runs the real API server (etcd and kube-apiserver) as child processes, for scenarios.

Inputs: the directory that `lab/assets/build.sh` fills, an address of this network namespace. Outputs: a ready server with an
administrator, and a user `kvip` who has exactly the rights that kvip needs. No controllers run: a deleted namespace stays
Terminating, no EndpointSlices appear by themselves. Must not touch the network's configuration: the address and `lo` are the caller's.
"""

from __future__ import annotations

import csv
import http.client
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from kvip.core.rights import rbac_objects
from kvip.settings import Settings
from lab.admin import request
from lab.apihost import ADMIN_TOKEN, KVIP_TOKEN, Child, LabError, wait_until
from lab.hostedapi import HostedApi

READY_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 5.0
LEASE_NAMESPACE = "kube-system"
BINARIES = ("etcd", "kube-apiserver", "kubectl")

Json = dict[str, Any]
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


def assets_version() -> str:
    """The Kubernetes version that `lab/assets` builds, e.g. "v1.34.4"."""
    go_mod = Path(__file__).parent / "assets" / "kube" / "go.mod"
    found = re.search(r"^(?:require\s+|\s*)k8s\.io/kubernetes\s+(v\S+)", go_mod.read_text(), re.MULTILINE)
    if found is None:
        raise LabError(f"{go_mod} requires no k8s.io/kubernetes")
    return found.group(1)


def assets_dir() -> Path:
    """Where etcd, kube-apiserver and kubectl are: KUBEBUILDER_ASSETS, else the cache that `make assets` fills."""
    if chosen := os.environ.get("KUBEBUILDER_ASSETS"):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kvip" / "assets" / assets_version()


def missing_assets() -> list[str]:
    """The programs that a run needs and that are not there; empty = `RealApi` can start."""
    directory = assets_dir()
    missing = [str(directory / name) for name in BINARIES if not os.access(directory / name, os.X_OK)]
    return missing + ([] if shutil.which("openssl") else ["openssl"])


def kvip_rbac(settings: Settings | None = None, *, user: str = "kvip") -> list[tuple[str, Json]]:
    """The rights that kvip needs with these settings (default: the base role), as (collection path, object) to create in order."""
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    return [(_collection(item), item) for item in rbac_objects(settings or Settings(), subject)]


def _collection(item: Json) -> str:
    namespace = item["metadata"].get("namespace")
    return f"{_RBAC}/{f'namespaces/{namespace}/' if namespace else ''}{item['kind'].lower()}s"


def _free_ports(count: int) -> list[int]:
    """Ports that are free on 127.0.0.1 now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
    except OSError as error:
        raise LabError(f"127.0.0.1 cannot be used in this network namespace ({error}): set `lo` up first") from error
    finally:
        for probe in sockets:
            probe.close()


class RealApi(HostedApi):
    """etcd and kube-apiserver on `address`:`port`, with TLS. See `lab.apihost.ApiHost` for the verbs."""

    what = "realapi"

    def __init__(self, address: str, port: int = 6443, *, assets: Path | None = None, extra_args: tuple[str, ...] = ()) -> None:
        ip = ipaddress.ip_address(address)
        if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            # kube-apiserver refuses such an --advertise-address (net.ParseIP + ValidateEndpointIP rules).
            raise LabError(f"{address}: kube-apiserver needs a global unicast address of this namespace")
        super().__init__(address, port, url=f"https://{f'[{address}]' if ip.version == 6 else address}:{port}")
        self.assets = assets or assets_dir()
        self.ca_file = self.directory / "certs" / "apiserver.crt"
        """The self-signed certificate that kube-apiserver makes, with its CA appended."""
        self.phases_s: dict[str, float] = {}
        """Seconds from `start()` to: etcd running, /readyz, rights given."""
        self._extra_args = extra_args
        self._rights: set[str] = set()
        self._etcd_url = ""
        self._etcd: Child | None = None

    def start(self) -> None:
        """Start both, wait for /readyz, create kvip's role, write the kubeconfigs. Errors: LabError."""
        if missing := missing_assets():
            self.stop()
            raise LabError(f"missing {', '.join(missing)}: run `make assets`, or set KUBEBUILDER_ASSETS")
        began = time.monotonic()
        try:
            self._write_files()
            self._start_etcd()
            self.phases_s["etcd"] = time.monotonic() - began
            self._start_api()
            self.phases_s["ready"] = time.monotonic() - began
            self._create_rights()
            self.phases_s["rights"] = time.monotonic() - began
            self._write_kubeconfigs()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill both and remove everything they wrote."""
        self.kill_api()
        if self._etcd is not None:
            self._etcd.stop()
            self._etcd = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def give_rights(self, settings: Settings) -> None:
        """User `kvip` has what these settings need, and no other right any more. Errors: LabError."""
        wanted = kvip_rbac(settings)
        names = {self._name(path, body) for path, body in wanted}
        for name in [name for name in self._rights if name not in names]:
            self._must("DELETE", name, None)
        for path, body in wanted:
            name = self._name(path, body)
            self._must("PUT" if name in self._rights else "POST", name if name in self._rights else path, body)
        self._rights = names

    def give_nothing(self) -> None:
        """User `kvip` has no right any more; `give_rights` gives them again. Errors: LabError."""
        for name in self._rights:
            self._must("DELETE", name, None)
        self._rights = set()

    @staticmethod
    def _name(path: str, body: Json) -> str:
        return f"{path}/{body['metadata']['name']}"

    def _must(self, method: str, path: str, body: Json | None) -> None:
        status, answer = self.request(method, path, body)
        if not 200 <= status < 300:
            raise LabError(f"{method} {path}: {status} {answer.get('message', '')}")

    def kubectl(self, *args: str, stdin: str = "", timeout_s: float = 20.0) -> str:
        """Run kubectl as the administrator and return what it printed. Errors: LabError with its words."""
        argv = [str(self.assets / "kubectl"), "--kubeconfig", str(self.admin_kubeconfig), *args]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise LabError(f"kubectl {' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def request(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """One request as the administrator: (status, decoded body, {} when it is not JSON). Errors: OSError when nobody answers."""
        return request(self.url, method, path, body, token=ADMIN_TOKEN, ca_file=self.ca_file)

    def _write_files(self) -> None:
        """The service-account key pair (kube-apiserver insists on one) and the token file."""
        key, public = self.directory / "sa.key", self.directory / "sa.pub"
        for argv in (["openssl", "genrsa", "-out", str(key), "2048"], ["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public)]):
            subprocess.run(argv, check=True, capture_output=True, timeout=30)
        with (self.directory / "tokens.csv").open("w", newline="") as out:
            tokens = csv.writer(out)
            tokens.writerow([ADMIN_TOKEN, "admin", "admin", "system:masters"])
            tokens.writerow([KVIP_TOKEN, "kvip", "kvip", "system:authenticated"])

    def _start_etcd(self) -> None:
        client_port, peer_port = _free_ports(2)
        self._etcd_url = f"http://127.0.0.1:{client_port}"
        peer_url = f"http://127.0.0.1:{peer_port}"
        self._etcd = Child(
            "etcd",
            [
                str(self.assets / "etcd"),
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={self._etcd_url}",
                f"--advertise-client-urls={self._etcd_url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
                "--unsafe-no-fsync=true",
                "--log-level=warn",
            ],
            self.directory / "etcd.log",
        )

    def _start_api(self) -> None:
        families = ["10.96.0.0/16", "fd00:96::/112"]
        etcd = self._etcd
        if etcd is None:
            raise LabError("kube-apiserver: etcd does not run; call start() first")
        self._api = Child(
            "kube-apiserver",
            [
                str(self.assets / "kube-apiserver"),
                f"--etcd-servers={self._etcd_url}",
                f"--bind-address={self.address}",
                f"--advertise-address={self.address}",
                f"--secure-port={self.port}",
                f"--cert-dir={self.directory / 'certs'}",
                f"--service-cluster-ip-range={','.join(reversed(families) if ':' in self.address else families)}",
                f"--service-account-key-file={self.directory / 'sa.pub'}",
                f"--service-account-signing-key-file={self.directory / 'sa.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--token-auth-file={self.directory / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--profiling=false",
                *self._extra_args,
            ],
            self.directory / "kube-apiserver.log",
        )
        wait_until(lambda: self._answers("/readyz"), f"{self.url}/readyz", children=[etcd, self._api], timeout_s=READY_TIMEOUT_S)

    def _create_rights(self) -> None:
        """kvip's role, once the namespaces that kube-apiserver itself makes are there."""
        children = [child for child in (self._etcd, self._api) if child]
        for namespace in ("default", LEASE_NAMESPACE):
            path = f"/api/v1/namespaces/{namespace}"
            wait_until(lambda path=path: self._answers(path), path, children=children, timeout_s=READY_TIMEOUT_S)  # type: ignore[misc]
        self.give_rights(Settings())

    def _answers(self, path: str) -> bool:
        """True when the server answers `path` with 200."""
        try:
            return self.request("GET", path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False
