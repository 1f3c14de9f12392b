"""What deploy/ holds is accepted by the real API server as it stands, and the daemons work with the rights that it gives and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvip import __version__
from lab import helm
from lab.cluster import SERVICE_LEASES, SERVICES, Cluster, wait
from lab.manifests import CHART, DEPLOY
from lab.realapi import RealApi
from lab.shipped import objects_of, running

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
POLICY = {"networkPolicy": {"enabled": True, "from": [{"ipBlock": {"cidr": "10.10.0.0/24"}}]}}
CHARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("kube-system", {}),
    "everything in one namespace": ("default", {"service-namespace": "default", "interface": "eth0"}),
    "one Lease, and no Service is written": ("kube-system", {"election": "global", "disable-service-updates": True}),
    "a Lease per Service, and the annotation of the host": ("kube-system", {"election": "per-service", "vip-host-annotation": True}),
}


@pytest.fixture
def real(cluster: Cluster) -> RealApi:
    if not isinstance(cluster.api, RealApi):
        pytest.skip("only the real API server validates, and asks for rights")
    return cluster.api


def chart(variant: str) -> str:
    if helm.find_helm() is None:
        pytest.skip(helm.NO_HELM)
    namespace, settings = CHARTS[variant]
    return helm.template({"settings": settings, **POLICY}, namespace=namespace)


def live_and_go(cluster: Cluster, *, written: bool = True) -> None:
    """One Service from its creation to its end; `written`: its status says what it got."""
    # What another mode left must be seen to be over before anything is taken (PROTOCOL G5).
    for node in cluster.nodes.values():
        wait(lambda node=node: "nothing is taken" not in node.get("/readyz")[1], "no other mode is in the way", timeout_s=25)  # type: ignore[misc]
    with cluster.sniffing(VIP, VIP6) as sniffer:
        uid = cluster.create("web", VIP, VIP6)
        cluster.wait_bound(VIP, VIP6, timeout_s=15)
        for vip in (VIP, VIP6):
            assert sniffer.wait_for(lambda frame, vip=vip: frame.claimed == vip, 5), f"{vip} is not announced"
        wait(lambda: bool(cluster.events(uid, "VIPBound")), "the Event says so", timeout_s=5)
        if written:
            wait(lambda: set(cluster.ingress("web")) == {VIP, VIP6}, "the status shows both", timeout_s=5)
    cluster.delete("web")
    cluster.wait_gone(VIP, VIP6)


def refused(cluster: Cluster) -> dict[str, float]:
    """Requests that the API server answered with 401 or 403, by node and kind."""
    return {
        f"{name} {sample}": value
        for name, node in cluster.nodes.items()
        for sample, value in node.metrics().items()
        if sample.startswith("kvip_api_requests_total") and ('code="403"' in sample or 'code="401"' in sample)
    }


def test_kustomize_base_is_accepted_and_enough(cluster: Cluster, real: RealApi, tmp_path: Path) -> None:
    base = DEPLOY / "base"
    answer = real.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(base))
    assert answer.count("(server dry run)") == len(objects_of(real.kubectl("kustomize", str(base)))) == 6
    with running(cluster, real.kubectl("kustomize", str(base)), tmp_path) as shipped:
        live_and_go(cluster)
        assert refused(cluster) == {}
        assert shipped.may(cluster, "GET", SERVICES)
        assert not shipped.may(cluster, "DELETE", f"{SERVICES}/web"), "the account has more rights than it was given"
        assert not shipped.may(cluster, "GET", SERVICE_LEASES)
    assert cluster.left() == {}


@pytest.mark.parametrize("variant", CHARTS)
def test_chart_is_accepted_and_enough(cluster: Cluster, real: RealApi, tmp_path: Path, variant: str) -> None:
    _, settings = CHARTS[variant]
    text = chart(variant)
    with running(cluster, text, tmp_path) as shipped:
        live_and_go(cluster, written="disable-service-updates" not in settings)
        assert refused(cluster) == {}
        assert shipped.may(cluster, "GET", SERVICES)
        assert not shipped.may(cluster, "DELETE", f"{SERVICES}/web"), "the account has more rights than it was given"
    assert cluster.left() == {}


def test_helm_installs_upgrades_and_uninstalls(cluster: Cluster, real: RealApi) -> None:
    """The commands of docs/operate.md and docs/install.md: the release's objects come, change and go with it."""
    if helm.find_helm() is None:
        pytest.skip(helm.NO_HELM)
    at = ("--namespace", "kube-system", "--kubeconfig", str(real.admin_kubeconfig))
    daemonset = "/apis/apps/v1/namespaces/kube-system/daemonsets"
    real.give_nothing()  # Helm adopts no role that others made
    try:
        helm.helm("install", "kvip", str(CHART), *at, "--set", "image.repository=registry.example/kvip", "--set", "settings.interface=eth0")
        before = cluster.request("GET", f"{daemonset}/kvip")["spec"]["template"]["spec"]["containers"][0]
        helm.helm("upgrade", "kvip", str(CHART), *at, "--reuse-values", "--set", "image.tag=0.2.0")
        after = cluster.request("GET", f"{daemonset}/kvip")["spec"]["template"]["spec"]["containers"][0]
        assert (before["image"], after["image"]) == (f"registry.example/kvip:{__version__}", "registry.example/kvip:0.2.0")
        assert before["env"] == after["env"]
        helm.helm("uninstall", "kvip", *at)
        found = real.kubectl("get", "daemonsets,serviceaccounts,clusterroles,clusterrolebindings,roles,rolebindings", "-A", "-o", "name")
        assert not [line for line in found.splitlines() if line.endswith("/kvip")]
    finally:
        cluster.give_rights()


def test_without_a_right_the_daemon_is_refused_and_says_so(cluster: Cluster, real: RealApi, tmp_path: Path) -> None:
    """The tests above can fail: one right less is noticed."""
    text = real.kubectl("kustomize", str(DEPLOY / "base")).replace("services/status", "services/approval")
    with running(cluster, text, tmp_path), pytest.raises(Exception, match="the status shows both"):
        live_and_go(cluster)
    cluster.delete_all()


def test_the_sweep_of_the_guide_may_what_a_sweep_needs(cluster: Cluster, real: RealApi) -> None:
    """docs/operate.md sweeps each node by `kubectl debug`: on the node's network, with what addresses and nf_tables ask for."""
    command = next(
        line for line in (DEPLOY.parent / "docs" / "operate.md").read_text().splitlines() if line.lstrip().startswith("kubectl debug $node")
    )
    given = command.replace("$node", "node/n1").replace("--attach ", "").split()[1:]
    real.kubectl(*given)
    try:
        (pod,) = cluster.request("GET", "/api/v1/namespaces/default/pods")["items"]
        (main,) = pod["spec"]["containers"]
        assert (pod["spec"]["nodeName"], pod["spec"]["hostNetwork"], main["command"]) == ("n1", True, ["kvip", "sweep"])
        assert set(main["securityContext"]["capabilities"]["add"]) >= {"NET_ADMIN", "NET_RAW"}
    finally:
        real.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")
