"""What mode `global` cannot do for a Service, and says so."""

from __future__ import annotations

from lab.cluster import GLOBAL, Cluster, wait
from lab.endpoints import endpoints_of

MODE = GLOBAL
VIP = "10.10.0.200"


def test_a_holder_of_all_vips_that_may_not_hold_one_says_so(cluster: Cluster) -> None:
    with endpoints_of(cluster, "web", cluster.other(cluster.holder()).node) as endpoints:
        uid = cluster.create("web", VIP, spec={"externalTrafficPolicy": "Local"})
        wait(lambda: bool(cluster.events(uid, "NotAnnounced")), "the Service is told", timeout_s=3)
        assert cluster.bound(VIP) == []
        endpoints.put(cluster.holder().node)
        cluster.wait_bound(VIP)
