"""What `kvip manifest` prints is accepted by the real API server as it stands, and so are the rights for every setting."""

from __future__ import annotations

import pytest

from kvip.cli.main import main
from lab.cluster import Cluster
from lab.realapi import RealApi

VARIANTS = {
    "daemonset": ("daemonset", "--interface", "eth0"),
    "daemonset with a kubeconfig": ("daemonset", "--kubeconfig", "/etc/kubernetes/kubelet.conf", "--metrics-address", "127.0.0.1:2112"),
    "static Pod": ("static-pod", "--interface", "eth0", "--election", "global"),
    "rights": ("rbac",),
    "rights with a Lease per Service, in one namespace": ("rbac", "--election", "per-service", "--service-namespace", "default"),
}
OBJECTS = {"rights": 5, "rights with a Lease per Service, in one namespace": 5}


@pytest.mark.parametrize("variant", VARIANTS)
def test_manifest_is_valid(cluster: Cluster, capsys: pytest.CaptureFixture[str], variant: str) -> None:
    if not isinstance(cluster.api, RealApi):
        pytest.skip("only the real API server validates")
    assert main(["manifest", *VARIANTS[variant]]) == 0
    answer = cluster.api.kubectl(
        "apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=capsys.readouterr().out
    )
    print(answer)
    assert answer.count("serverside-applied (server dry run)") == OBJECTS.get(variant, 1)
