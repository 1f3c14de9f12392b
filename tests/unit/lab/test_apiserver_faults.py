"""The embedded API server breaks as it is told to, and runs as a process; over loopback."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import AsyncExitStack

import aiohttp
import pytest

from lab.apihost import LabError
from lab.embeddedapi import EmbeddedApi
from lab.kubeapi import KubeApi
from lab.kubewatch import refused, watching
from lab.realapi import RealApi, assets_version, kvip_rbac
from tests.unit.lab.leases import lease

SERVICES = "/api/v1/namespaces/default/services"


async def test_stall_answers_nobody_and_silences_watches_until_it_ends(api):
    made = await api.create_service("a")
    async with watching(api, "services", resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        await api.create_service("b")
        assert await watch.seen(1) == [("ADDED", "b")]
        await api.set_faults(stall=True)
        assert (await refused(api.request("GET", SERVICES, timeout_s=0.05))).status == 0
        put = asyncio.create_task(api.patch_service("a", {"metadata": {"labels": {"x": "y"}}}), name="stalled patch")
        event = asyncio.create_task(watch.next(), name="stalled watch")
        done, _ = await asyncio.wait({put, event}, timeout=0.05)
        assert not done
        await api.set_faults(stall=False)
        assert (await put)["metadata"]["labels"] == {"x": "y"}
        assert (await event)[0] == "MODIFIED"


async def test_a_fault_of_one_client_leaves_the_others_alone(api, server):
    async with KubeApi(server.url, source="127.0.0.2") as other:
        await api.set_faults(client="127.0.0.2", stall=True)
        assert (await refused(other.request("GET", SERVICES, timeout_s=0.05))).status == 0
        assert await api.list("services") == []
        await api.set_faults(client="127.0.0.2", stall=False)
        assert await other.list("services") == []


async def test_dropped_watches_break_off(api, server):
    async with KubeApi(server.url, source="127.0.0.2") as other, AsyncExitStack() as stack:
        mine = await stack.enter_async_context(watching(api, "services"))
        its = await stack.enter_async_context(watching(other, "services"))
        await api.create_service("a")
        await mine.next()
        await its.next()
        await api.set_faults(drop_watches=True, client="127.0.0.2")
        with pytest.raises(aiohttp.ClientError):
            await its.next()
        await api.create_service("b")
        assert await mine.seen(1) == [("ADDED", "b")]


async def test_swallowed_events_are_seen_by_lists_only(api):
    made = await api.create_service("a")
    version = made["metadata"]["resourceVersion"]
    async with watching(api, "services", resourceVersion=version) as watch:
        await api.create_service("b")
        await watch.next()
        await api.set_faults(swallow_events=True)
        await api.delete_service("a")
        await api.set_faults(swallow_events=False)
        await api.create_service("c")
        assert await watch.seen(1) == [("ADDED", "c")]
    async with watching(api, "services", resourceVersion=version) as watch:
        assert await watch.seen(2) == [("ADDED", "b"), ("ADDED", "c")]
    assert [item["metadata"]["name"] for item in await api.list("services")] == ["b", "c"]


@pytest.mark.parametrize("code", [429, 500, 403, 410, 503])
async def test_status_rule_hits_so_many_requests(api, code):
    await api.create("leases", lease(), namespace="kube-system")
    await api.set_faults(status={"verb": "GET", "path_regex": "leases", "code": code, "count": 2})
    for _ in range(2):
        error = await refused(api.leases())
        assert (error.status, error.retry_after_s) == (code, 1.0 if code in {429, 503} else 0.0)
        assert await api.list("services") == []
    assert list(await api.leases()) == ["l"]


async def test_rule_may_carry_the_request_out_and_lose_the_answer(api):
    await api.set_faults(status={"verb": "POST", "path_regex": "leases", "code": 0, "count": 1, "apply": True})
    assert (await refused(api.create("leases", lease(), namespace="kube-system"))).status == 0
    assert list(await api.leases()) == ["l"]


async def test_fail_put_fails_puts_only(api):
    made = await api.create("leases", lease(), namespace="kube-system")
    await api.set_faults(fail_put=True)
    assert (await refused(api.replace("leases", made, namespace="kube-system"))).status == 500
    assert await api.get("leases", "l", namespace="kube-system") == made
    await api.patch("leases", "l", {"spec": {"holderIdentity": "n2"}}, namespace="kube-system")


async def test_delay_holds_each_request_up(api):
    await api.set_faults(delay_s=0.05)
    began = time.monotonic()
    await api.list("services")
    assert time.monotonic() - began >= 0.05


async def test_unknown_faults_and_bad_patterns_are_refused(api):
    assert (await refused(api.set_faults(stal=True))).status == 400
    assert (await refused(api.set_faults(status={"code": 500, "path_regex": "("}))).status == 400
    assert await api.request("GET", "/_lab/faults") == {}


async def test_requests_are_counted_and_reset_forgets(api):
    await api.create_service("a")
    await refused(api.create_service("a"))
    async with watching(api, "services") as watch:
        await watch.next()
    await api.list("services")
    async with aiohttp.ClientSession(api.url) as session:
        rows = await (await session.get("/_lab/requests")).json()
        assert [(row["verb"], row["resource"], row["code"], row["count"]) for row in rows] == [
            ("LIST", "services", 200, 1),
            ("POST", "services", 201, 1),
            ("POST", "services", 409, 1),
            ("WATCH", "services", 200, 1),
        ]
        assert {row["client"] for row in rows} == {"127.0.0.1"}
        await api.request("POST", "/_lab/reset")
        assert await (await session.get("/_lab/requests")).json() == []


async def test_restore_starts_history_anew(api, server):
    before = await api.create_service("a")
    await api.request("POST", "/_lab/reset", query={"store": "true"})
    assert await api.list("services") == []
    assert server.store.version < int(before["metadata"]["resourceVersion"])


async def test_process_restarts_with_its_objects_and_without_its_history():
    with EmbeddedApi(port=0) as host:
        async with KubeApi(host.url, host.admin_token) as api:
            first = await api.create_service("a")
            await api.create_service("b")
            host.set_faults(fail_put=True)
            assert host.request_counts() == {("POST", "services", 201): 2}
        host.restart_api()
        async with KubeApi(host.url, host.kvip_token) as api:
            assert (await api.get_service("a"))["metadata"]["uid"] == first["metadata"]["uid"]
            events = [event async for event in api.watch("services", query={"resourceVersion": first["metadata"]["resourceVersion"]})]
            assert events[0][1]["code"] == 410
            host.stall(True)
            assert (await refused(api.request("GET", SERVICES, timeout_s=0.05))).status == 0
            host.stall(False)
            assert len(await api.list("services")) == 2
        with pytest.raises(LabError, match="stal"):
            host.set_faults(stal=True)
    assert not host.directory.exists()


def test_children_die_with_the_process_that_started_them(tmp_path):
    code = """
        import os, sys, signal
        from pathlib import Path
        from lab.apihost import Child
        child = Child("sleeper", ["sleep", "60"], Path(sys.argv[1]) / "log")
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == -signal.SIGKILL
    pidfd = -1
    try:
        pidfd = os.pidfd_open(int(done.stdout))
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], 3)[0], "the child outlived its parent"
    finally:
        os.close(pidfd)


def test_real_server_wants_an_address_it_can_advertise():
    with pytest.raises(LabError, match="global unicast"):
        RealApi("127.0.0.1")
    assert assets_version().startswith("v1.")


def test_role_of_kvip_writes_only_status_events_and_leases():
    rules = [rule for _, body in kvip_rbac() for rule in body.get("rules", [])]
    written = {resource for rule in rules for resource in rule["resources"] if set(rule["verbs"]) - {"get", "list", "watch"}}
    assert written == {"services/status", "events", "leases"}
