"""The embedded API server keeps objects as kube-apiserver v1.34.4 does; over loopback."""

import asyncio

import pytest

from kvip.errors import ApiError
from lab.kubewatch import refused, watching
from tests.unit.lab.leases import lease

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
SERVICES = "/api/v1/namespaces/default/services"


async def test_create_fills_in_what_the_real_server_does(api):
    made = await api.create_service("a", addresses=["10.0.0.1", "fd00::1"])
    assert made["metadata"]["uid"]
    assert made["metadata"]["annotations"] == {"kube-vip.io/loadbalancerIPs": "10.0.0.1,fd00::1"}
    assert made["spec"]["externalTrafficPolicy"] == "Cluster"
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert made["status"] == {"loadBalancer": {}}
    assert "generation" not in made["metadata"]


async def test_versions_are_global_and_rise(api):
    versions = [int((await api.create("leases", lease(f"l{i}"), namespace="kube-system"))["metadata"]["resourceVersion"]) for i in range(3)]
    versions.append(int((await api.create_service("a"))["metadata"]["resourceVersion"]))
    assert versions == sorted(set(versions))


async def test_create_of_an_existing_or_homeless_object_is_refused(api):
    await api.create_service("a")
    error = await refused(api.create_service("a"))
    assert (error.status, error.reason) == (409, "AlreadyExists")
    error = await refused(api.create_service("a", namespace="nowhere"))
    assert (error.status, error.reason, error.message) == (404, "NotFound", 'namespaces "nowhere" not found')


async def test_put_with_a_stale_version_conflicts_and_changes_nothing(api):
    first = await api.create("leases", lease(), namespace="kube-system")
    second = await api.replace("leases", first | {"spec": first["spec"] | {"holderIdentity": "n2"}}, namespace="kube-system")
    error = await refused(api.replace("leases", first | {"spec": first["spec"] | {"holderIdentity": "n3"}}, namespace="kube-system"))
    assert (error.status, error.reason) == (409, "Conflict")
    assert await api.get("leases", "l", namespace="kube-system") == second


async def test_of_many_writers_on_one_version_exactly_one_wins(api):
    made = await api.create("leases", lease(), namespace="kube-system")

    async def claim(holder):
        try:
            await api.replace("leases", made | {"spec": made["spec"] | {"holderIdentity": holder}}, namespace="kube-system")
        except ApiError as error:
            return error.status
        return holder

    answers = await asyncio.gather(*(claim(f"n{i}") for i in range(2, 22)))
    holder = (await api.leases())["l"]["spec"]["holderIdentity"]
    assert sorted(map(str, answers)) == sorted([holder, *["409"] * 19])


async def test_lease_put_needs_a_version(api):
    await api.create("leases", lease(), namespace="kube-system")
    error = await refused(api.replace("leases", lease(holder="n2"), namespace="kube-system"))
    assert (error.status, error.reason) == (422, "Invalid")


async def test_put_on_a_deleted_lease_conflicts_only_by_its_uid(api):
    made = await api.create("leases", lease(), namespace="kube-system")
    await api.delete("leases", "l", namespace="kube-system")
    assert (await refused(api.replace("leases", made, namespace="kube-system"))).status == 409
    del made["metadata"]["uid"]
    again = await api.replace("leases", made, namespace="kube-system")
    assert again["spec"]["holderIdentity"] == "n1"


@pytest.mark.parametrize("stamp", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123Z", "yesterday"])
async def test_lease_times_without_six_digits_are_refused(api, stamp):
    assert (await refused(api.create("leases", lease(renewTime=stamp), namespace="kube-system"))).status == 400
    await api.create("leases", lease(renewTime="2026-01-01T00:00:00.000000Z"), namespace="kube-system")


async def test_patch_of_nothing_keeps_the_version_and_tells_nobody(api):
    made = await api.create_service("a", annotations={"k": "v"})
    async with watching(api, "services", resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        same = await api.patch_service("a", {"metadata": {"annotations": {"k": "v"}}})
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        await api.create_service("b")
        assert await watch.seen(1) == [("ADDED", "b")]


async def test_uid_and_version_are_preconditions(api):
    made = await api.create_service("a")
    assert (await refused(api.patch_service("a", {"metadata": {"uid": "other"}}))).status == 422
    assert (await refused(api.patch_service("a", {"metadata": {"resourceVersion": "1"}}))).status == 409
    assert (
        await refused(api.replace("services", made | {"metadata": made["metadata"] | {"uid": "other"}}, namespace="default"))
    ).status == 409
    assert (await refused(api.delete_service("a", uid="other"))).status == 409
    await api.delete_service("a", uid=made["metadata"]["uid"])
    assert (await refused(api.get_service("a"))).status == 404


async def test_status_and_spec_are_written_apart(api):
    await api.create_service("a")
    ingress = [{"ip": "10.0.0.1", "ipMode": "VIP"}]
    patch = {"metadata": {"annotations": {"x": "1"}}, "spec": {"type": "ClusterIP"}, "status": {"loadBalancer": {"ingress": ingress}}}
    after = await api.patch_service("a", patch, subresource="status")
    assert (after["spec"]["type"], after["metadata"]["annotations"], after["status"]["loadBalancer"]["ingress"]) == (
        "LoadBalancer",
        {"x": "1"},
        ingress,
    )
    after = await api.patch_service("a", {"metadata": {"labels": {"y": "2"}}, "status": {"loadBalancer": {}}})
    assert after["status"]["loadBalancer"]["ingress"] == ingress
    await api.wait_ingress("a", ["10.0.0.1"])


async def test_type_change_clears_status_and_class(api):
    await api.create_service("a", lb_class="x/y")
    await api.patch_service("a", {"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1", "ipMode": "VIP"}]}}}, subresource="status")
    after = await api.patch_service("a", {"spec": {"type": "ClusterIP"}})
    assert after["status"] == {"loadBalancer": {}}
    assert not {"loadBalancerClass", "allocateLoadBalancerNodePorts", "externalTrafficPolicy"} & set(after["spec"])
    assert (await api.patch_service("a", {"spec": {"type": "LoadBalancer", "loadBalancerClass": "x/z"}}))["spec"][
        "loadBalancerClass"
    ] == "x/z"


@pytest.mark.parametrize(
    ("patch", "subresource"),
    [
        ({"spec": {"loadBalancerClass": "x/y"}}, ""),
        ({"spec": {"ports": None}}, ""),
        ({"spec": {"ports": [{"port": 0}]}}, ""),
        ({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}}, "status"),
        ({"status": {"loadBalancer": {"ingress": [{"ip": "no", "ipMode": "VIP"}]}}}, "status"),
        ({"metadata": {"annotations": {"a": "x" * 300_000}}}, ""),
    ],
)
async def test_invalid_services_are_refused_whole(api, patch, subresource):
    made = await api.create_service("a")
    error = await refused(api.patch_service("a", patch, subresource=subresource))
    assert (error.status, error.reason) == (422, "Invalid")
    assert await api.get_service("a") == made


async def test_finalizer_holds_a_deleted_object(api):
    await api.create("services", {"metadata": {"name": "f", "finalizers": ["a/b"]}, "spec": {"ports": [{"port": 1}]}}, namespace="default")
    assert (await api.delete_service("f"))["metadata"]["deletionTimestamp"]
    await api.get_service("f")
    await api.patch_service("f", {"metadata": {"finalizers": None}})
    assert (await refused(api.get_service("f"))).status == 404


async def test_terminating_namespace_takes_nothing_new(api):
    await api.create("namespaces", {"metadata": {"name": "gone"}})
    await api.delete("namespaces", "gone")
    error = await refused(api.create_service("a", namespace="gone"))
    assert (error.status, error.reason) == (403, "Forbidden")
    assert (await refused(api.delete("namespaces", "default"))).status == 403


async def test_endpointslices_have_generations_and_nodes_keep_their_status(api):
    made = await api.create_endpointslice("a", node_name="n1")
    assert (made["metadata"]["generation"], made["endpoints"][0]["nodeName"]) == (1, "n1")
    changed = await api.patch("endpointslices", "a-1", {"endpoints": []}, namespace="default")
    assert (changed["metadata"]["generation"], changed["endpoints"]) == (2, None)
    for key, generation in (("annotations", 2), ("labels", 3)):
        marked = await api.patch("endpointslices", "a-1", {"metadata": {key: {"x": "y"}}}, namespace="default")
        assert marked["metadata"]["generation"] == generation
    assert (await api.create_node("n1", addresses=["10.0.0.9"]))["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.9"}]


async def test_events_get_names_and_belong_to_the_namespace_of_their_object(api):
    service = await api.create_service("a")
    event = {
        "metadata": {"generateName": "a."},
        "involvedObject": {"kind": "Service", "namespace": "default", "name": "a", "uid": service["metadata"]["uid"]},
        "reason": "VIPBound",
        "type": "Normal",
    }
    names = {(await api.create("events", event, namespace="default"))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("a.") for name in names)
    assert len(await api.events_of(service["metadata"]["uid"], reason="VIPBound")) == 3
    assert await api.events_of("a", reason="VIPSwept") == []
    assert len(await api.list("events", query={"fieldSelector": "involvedObject.name=a,reason=VIPBound"})) == 3
    assert (await refused(api.create("events", event, namespace="kube-system"))).status == 422


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/secrets", 404),
        ("GET", "/apis/v1/leases", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/services/name-without-namespace", 404),
        ("GET", SERVICES + "?labelSelector=a%20b", 400),
        ("GET", SERVICES + "?fieldSelector=spec.what%3Dx", 400),
        ("GET", SERVICES + "?resourceVersion=abc", 500),
        ("GET", SERVICES + "?resourceVersion=999999", 504),
        ("GET", SERVICES + "?limit=x", 400),
        ("GET", SERVICES + "?resourceVersionMatch=Exact", 422),
        ("GET", SERVICES + "?watch=1&sendInitialEvents=true", 422),
        ("POST", "/api/v1/services", 405),
        ("POST", SERVICES, 400),
        ("PUT", LEASES + "/l", 400),
    ],
)
async def test_bad_requests_get_a_status(api, method, path, status):
    error = await refused(api.request(method, path, body=[1] if method in {"POST", "PUT"} else None))
    assert error.status == status
    assert error.message
