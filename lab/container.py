"""The daemon of one node as a container of the image, started as a kubelet and its runtime would start the Pod.

In: what `lab/image/build.sh` built, the PodSpec, the service account's token. Out: `ContainerNode`, a `NodeProcess` whose daemon is PID 1
of a container that crun runs, with the Pod's capabilities, read-only root, mounts and seccomp profile, on the node's network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lab.lan import Lan
from lab.netns import LabError
from lab.node import NodeProcess
from lab.oci import runtime_spec
from lab.shipped import environment

Json = dict[str, Any]
SCRIPT = Path(__file__).parent / "image" / "build.sh"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_PROFILE = Path("/usr/share/containers/seccomp.json")
"""RuntimeDefault's, as Debian's package golang-github-containers-common has it; buildah depends on that."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose files lie in a folder."""

    rootfs: Path
    config: Json
    summary: str
    """Name, size and start time in a line."""


def missing() -> str:
    """Why no image of this tree can be run here; "" when it can. It must be built before: a lab has no network to build with."""
    if shutil.which("crun") is None:
        return "no crun: apt-get install crun"
    done = subprocess.run([str(SCRIPT), "--check"], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() if done.returncode else ""


def built() -> Image:
    """The image that `make image-lab` built. Raises LabError when there is none of this tree."""
    if why := missing():
        raise LabError(why)
    work = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvip" / "image"
    config = msgspec.json.decode((work / "inspect.json").read_bytes(), type=Json)["OCIv1"]["config"]
    return Image(rootfs=work / "rootfs", config=config, summary=(work / "summary").read_text().strip())


class ContainerNode(NodeProcess):
    """One node's daemon in a container. `freeze` is not for it: it would strike crun."""

    def __init__(self, lan: Lan, node: str, *, image: Image, pod: Json, api_address: tuple[str, int], token: str, ca_file: Path,
                 work_dir: Path) -> None:  # fmt: skip
        """`api_address`: host and port that the kubelet would name to the container."""
        super().__init__(lan, node, kubeconfig="", work_dir=work_dir)
        self.env = {key: os.environ[key] for key in ("PATH",) if key in os.environ}  # crun's own
        self._bundle = work_dir / node / "bundle"
        self._name = f"kvip-{node}"
        account = self._bundle / "account"
        account.mkdir(parents=True)
        (account / "token").write_text(token)
        (account / "namespace").write_text("kube-system")
        shutil.copy(ca_file, account / "ca.crt")
        (state,) = (volume["hostPath"]["path"] for volume in pod["volumes"])
        binds = [_bind(self.state_dir, state, "rw"), _bind(account, ACCOUNT, "ro")]
        host, port = api_address
        self._variables = {**environment(pod, node), "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
        self._pod, self._image, self._binds = pod, image, binds
        self._write_bundle(self._bundle, pod)

    def _write_bundle(self, bundle: Path, pod: Json) -> None:
        profile = msgspec.json.decode(_PROFILE.read_bytes(), type=Json)
        rootfs, config = str(self._image.rootfs), self._image.config
        spec = runtime_spec(pod, config, rootfs=rootfs, environment=self._variables, binds=self._binds, profile=profile)
        bundle.mkdir(exist_ok=True)
        (bundle / "config.json").write_bytes(msgspec.json.encode(spec))

    def _command(self) -> tuple[str, ...]:
        return _run(self._crun("run", "--bundle", str(self._bundle)), self._name)

    def _crun(self, *arguments: str) -> tuple[str, ...]:
        return ("--root", str(self._bundle / "state"), "--cgroup-manager=disabled", *arguments)

    def kill9(self) -> None:
        """SIGKILL to the daemon, and wait until the kernel has ended it."""
        self._asked_to_end = True
        subprocess.run(["crun", *self._crun("kill"), self._name, "KILL"], check=True, capture_output=True, timeout=10)
        self.wait_exit(5.0)

    def once(self, *arguments: str) -> str:
        """Run one command of kvip in another container of the same Pod to its end; what it printed. Raises LabError."""
        bundle, name = self._bundle.with_name("once"), f"{self._name}-once"
        (main,) = self._pod["containers"]
        self._write_bundle(bundle, {**self._pod, "containers": [{**main, "args": list(arguments)}]})
        return self._ns.run(*_run(self._crun("run", "--bundle", str(bundle)), name)).stdout

    def status(self) -> dict[str, str]:
        """/proc/PID/status of the daemon, seen from the host."""
        done = subprocess.run(["crun", *self._crun("state"), self._name], capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            raise LabError(f"crun state {self._name}: {done.stderr.strip()}")
        pid = msgspec.json.decode(done.stdout, type=Json)["pid"]
        return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)

    def close(self) -> None:
        """End the container whatever its state; idempotent."""
        if self.running:
            subprocess.run(["crun", *self._crun("delete", "--force"), self._name], capture_output=True, timeout=10, check=False)
        super().close()


def _bind(source: Path, destination: str, mode: str) -> Json:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", "rprivate", "nosuid", "nodev", mode]}


def _run(crun: Sequence[str], name: str) -> tuple[str, ...]:
    # crun 1.8 knows no hybrid cgroup hierarchy: in this mount namespace it sees a unified one, and makes no groups in it.
    return ("unshare", "--mount", "sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec crun "$@"', "crun", *crun, name)
