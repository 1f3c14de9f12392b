from datetime import datetime, timedelta, timezone

import pytest

from kvip.core.objects import LeaseSpec
from kvip.errors import ApiError
from kvip.kube.leases import LeaseClient, micro_time
from tests.unit.kube.kube_server import answer, api_of, hang, kube_server, status

LEASE = {"metadata": {"name": "l", "namespace": "kube-system", "resourceVersion": "4", "uid": "u"}, "spec": {"holderIdentity": "n1_x"}}
PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


def test_times_are_utc_with_microseconds():
    moment = datetime(2026, 11, 23, 21, 0, tzinfo=timezone(timedelta(hours=-5)))
    assert micro_time(moment) == "2026-11-24T02:00:00.000000Z"


async def test_get_reads_etcd_and_knows_absence(tmp_path):
    async with kube_server(answer(200, LEASE), answer(404, status(404, "NotFound"))) as server, api_of(server, tmp_path) as api:
        leases = LeaseClient(api, "kube-system")
        found = await leases.get("l", deadline_s=2)
        assert (found.metadata.resource_version, found.spec.holder_identity) == ("4", "n1_x")
        assert await leases.get("l", deadline_s=2) is None
    assert (server.seen[0].path, server.seen[0].query) == (f"{PATH}/l", {})


async def test_a_404_of_a_proxy_is_no_absence(tmp_path):
    async with kube_server(answer(404, b"<html>no route")) as server, api_of(server, tmp_path) as api:
        with pytest.raises(ApiError):
            await LeaseClient(api, "kube-system").get("l", deadline_s=2)


async def test_create_sends_a_complete_object(tmp_path):
    async with kube_server(answer(201, LEASE)) as server, api_of(server, tmp_path) as api:
        spec = LeaseSpec(holder_identity="n1_x", lease_duration_seconds=5, renew_time="2026-11-24T02:00:00.000000Z", lease_transitions=0)
        await LeaseClient(api, "kube-system").create("l", spec, labels={"a": "b"}, deadline_s=2)
    assert (server.seen[0].method, server.seen[0].path) == ("POST", PATH)
    assert server.seen[0].body == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l", "namespace": "kube-system", "labels": {"a": "b"}},
        "spec": {
            "holderIdentity": "n1_x",
            "leaseDurationSeconds": 5,
            "renewTime": "2026-11-24T02:00:00.000000Z",
            "leaseTransitions": 0,
        },
    }


async def test_replace_is_a_compare_and_swap(tmp_path):
    async with kube_server(answer(200, LEASE), answer(409, status(409, "Conflict"))) as server, api_of(server, tmp_path) as api:
        leases = LeaseClient(api, "kube-system")
        await leases.replace("l", LeaseSpec(holder_identity=""), resource_version="3", uid="u", annotations={"k": "v"}, deadline_s=2)
        with pytest.raises(ApiError) as caught:
            await leases.replace("l", LeaseSpec(), resource_version="3", deadline_s=2)
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    assert (server.seen[0].method, server.seen[0].path) == ("PUT", f"{PATH}/l")
    metadata = {"name": "l", "namespace": "kube-system", "resourceVersion": "3", "uid": "u", "annotations": {"k": "v"}}
    assert server.seen[0].body["metadata"] == metadata
    assert server.seen[0].body["spec"] == {"holderIdentity": ""}


async def test_replace_without_a_version_is_refused(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        with pytest.raises(ValueError, match="resourceVersion"):
            await LeaseClient(api, "kube-system").replace("l", LeaseSpec(), resource_version="", deadline_s=2)
    assert server.seen == []


async def test_a_renewal_meets_its_deadline(tmp_path):
    async with kube_server(hang) as server, api_of(server, tmp_path) as api:
        with pytest.raises(ApiError) as caught:
            await LeaseClient(api, "kube-system").replace("l", LeaseSpec(), resource_version="3", deadline_s=0.05)
    assert caught.value.status == 0
