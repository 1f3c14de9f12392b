"""The quick start as a newcomer types it: the commands are read from the page and run as they stand, against the real API server."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import container, helm
from lab.cluster import Cluster, now, wait
from lab.kubelets import Kubelets
from lab.lan import CLIENT
from lab.node import REPOSITORY
from lab.prober import Prober
from lab.process import LabProcess
from lab.realapi import RealApi, assets_dir
from tests.unit.docs.pages import DOCS, section_code

VIP = "192.0.2.10"
OWN = {"n1": "192.0.2.1", "n2": "192.0.2.2", CLIENT: "192.0.2.3"}
"""The nodes' subnet is the one that the page has for an example."""
FEWER_THAN = 10
COMMAND_S = 60.0
NOT_RUN = {
    "make image": "the lab has no network to build with: `make image-lab` built it before, from the same Dockerfile",
    "docker push": "there is no registry: the image is taken from where it was built",
}
"""What needs more than a cluster, and what stands for it."""
SWEEPS = re.compile(r"^for node in .*?^done\n", re.MULTILINE | re.DOTALL)
"""`kubectl debug` attaches through a kubelet: the same command is run in a container on each node instead (tests/scenario/test_deploy.py
has its Pod)."""


class Web(LabProcess):
    """Stands for kube-proxy and the Pod of nginx on a node: what is accepted there, at whatever address, is answered."""

    def _command(self) -> tuple[str, ...]:
        return (sys.executable, "-m", "http.server", "80")


@pytest.fixture
def real(cluster: Cluster) -> Iterator[RealApi]:
    """A cluster that never saw kvip, on the subnet of the page; afterwards the lab's own again."""
    if not isinstance(cluster.api, RealApi):
        pytest.skip("only the real API server has the commands' verbs")
    if why := container.missing() or ("" if helm.find_helm() else helm.NO_HELM):
        pytest.skip(why)
    for node in cluster.nodes.values():
        node.stop()
    cluster.api.give_nothing()
    cluster.api.kubectl("-n", "kube-system", "delete", "lease", "-l", "app.kubernetes.io/managed-by=kvip")
    for machine, own in OWN.items():
        cluster.lan.run(machine, "ip", "addr", "add", f"{own}/24", "dev", "eth0")
    try:
        yield cluster.api
    finally:
        for machine, own in OWN.items():
            cluster.lan.run(machine, "ip", "addr", "del", f"{own}/24", "dev", "eth0")
        cluster.give_rights()


class Newcomer:
    """Types commands in the checkout: on a machine with kubectl and helm, and what asks the VIP on one of the segment."""

    def __init__(self, cluster: Cluster, real: RealApi, home: Path) -> None:
        programs = f"{assets_dir()}{os.pathsep}{os.environ['PATH']}"
        self._environment = {"PATH": programs, "KUBECONFIG": str(real.admin_kubeconfig), "HOME": str(home)}
        self._cluster = cluster

    def types(self, command: str) -> str:
        """What the shell printed. Fails with its words when the command does."""
        machine = CLIENT if command.startswith("curl ") else "lab"
        began = now()
        done = subprocess.run(
            self._cluster.lan.ns(machine).command("sh", "-euc", command), cwd=REPOSITORY, env=self._environment,
            capture_output=True, text=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        print(f"{now() - began:6.2f} s  {command}")
        assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr}"
        return done.stdout


def delete(newcomer: Newcomer, prober: Prober) -> float:
    """The Service goes; seconds from the command, kubectl's own start included, to the last answer."""
    (command,) = section_code(DOCS / "quickstart.md", "Away with it").splitlines()
    began = now()
    newcomer.types(command)
    assert prober.wait_silent(VIP), f"{VIP} is still answered"
    return max(0.0, prober.answers(VIP)[-1].at_s - began)


def uninstall(newcomer: Newcomer, kubelets: Kubelets) -> None:
    """The block of docs/operate.md."""
    before, after = SWEEPS.split(section_code(DOCS / "operate.md", "Uninstall, without a trace"))
    for command in before.splitlines():
        newcomer.types(command)
    for node in kubelets.nodes.values():
        assert "nothing of kvip's is left" in node.once("sweep")
    for command in after.splitlines():
        newcomer.types(command)


def nothing_is_left(cluster: Cluster, real: RealApi) -> None:
    """Neither in the API server nor on a node."""
    found = real.kubectl("get", "daemonsets,pods,serviceaccounts,clusterroles,clusterrolebindings,roles,rolebindings", "-A", "-o", "name")
    assert not [line for line in found.splitlines() if "/kvip" in line]
    assert real.kubectl("get", "leases", "-A", "-l", "app.kubernetes.io/managed-by=kvip", "-o", "name") == ""
    for name in cluster.nodes:
        assert VIP not in {address.ip for address in cluster.lan.addresses(name)}
        assert "kvip" not in cluster.lan.run(name, "nft", "list", "tables").stdout


def test_the_commands_of_the_quick_start_lead_to_a_vip_and_away_again(cluster: Cluster, real: RealApi, tmp_path: Path) -> None:
    typed = section_code(DOCS / "quickstart.md", "With Helm").splitlines()
    assert len(typed) < FEWER_THAN
    (pulled_as,) = (command.removeprefix("docker push ") for command in typed if command.startswith("docker push "))
    kubelets = Kubelets(cluster, real, image=container.built(), pulled_as=pulled_as, work_dir=tmp_path)
    newcomer = Newcomer(cluster, real, tmp_path)
    with contextlib.ExitStack() as stack:
        for name in cluster.nodes:
            stack.enter_context(Web(f"web on {name}", cluster.lan.ns(name), log_path=tmp_path / f"web-{name}" / "log", env={}))
        stack.enter_context(kubelets.at_work())
        prober = stack.enter_context(cluster.probing(VIP))
        began, answered, printed = now(), 0.0, {}
        for command in typed:
            if why := next((why for prefix, why in NOT_RUN.items() if command.startswith(prefix)), ""):
                print(f"not run   {command}: {why}")
                continue
            assert command.startswith("kubectl annotate ") or answered or not prober.answers(VIP), "answered before it was asked for"
            printed[command] = newcomer.types(command)
            if command.startswith("kubectl annotate "):
                assert prober.wait_answer(VIP), f"{VIP} is not answered on the wire"
                answered = min(answer.at_s for answer in prober.answers(VIP))
                wait(lambda: cluster.ingress("web") == [VIP], "the status shows it", timeout_s=5)
        assert answered
        assert VIP in printed["kubectl get service web"]
        assert printed[f"curl http://{VIP}/"]
        silent_s = delete(newcomer, prober)
        assert prober.report(VIP).two_answers_s == 0
        uninstall(newcomer, kubelets)
        assert prober.wait_silent(VIP)
    took = now() - began
    nothing_is_left(cluster, real)
    print(container.built().summary)
    print(
        f"quick start: {len(typed)} commands; {VIP} answered {answered - began:.1f} s after the first, without the image's build; "
        f"silent {silent_s:.2f} s after its Service was deleted; uninstalled, {took:.1f} s in all"
    )
