import asyncio

import pytest
from aiohttp import web

from kvip.core.model import Vip
from kvip.core.objects import Ingress, ObjectMeta, Service
from kvip.kube.status import HostWriter, StatusWriter, merge_ingress
from tests.unit.kube.kube_server import answer, api_of, hang, kube_server, running, status, until

ONE, TWO = Vip("192.0.2.1"), Vip("2001:db8::2")
OURS = (Ingress(ip=ONE, ip_mode="VIP"),)


def seen(name: str, version: str = "7", uid: str = "u") -> Service:
    return Service(metadata=ObjectMeta(name=name, namespace="default", uid=uid, resource_version=version))


def test_our_entries_come_in_and_others_stay():
    theirs = (Ingress(hostname="lb.example"), Ingress(ip="198.51.100.9", ip_mode="Proxy"))
    assert merge_ingress(theirs, add=[ONE, TWO], remove=[]) == (*theirs, *OURS, Ingress(ip=TWO, ip_mode="VIP"))


def test_nothing_to_do_is_none():
    assert merge_ingress(OURS, add=[ONE], remove=[TWO]) is None
    assert merge_ingress((), add=[], remove=[ONE]) is None


def test_removal_compares_addresses_not_spellings():
    current = (Ingress(ip="2001:0DB8::0002"), *OURS)
    assert merge_ingress(current, add=[], remove=[TWO]) == OURS
    assert merge_ingress(OURS, add=[], remove=[ONE]) == ()


def test_an_entry_without_the_mode_gets_it_in_place_and_once():
    current = (Ingress(ip=ONE), Ingress(ip=ONE, ip_mode="VIP"), Ingress(hostname="h"))
    assert merge_ingress(current, add=[ONE, ONE], remove=[]) == (*OURS, Ingress(hostname="h"))


def test_an_address_asked_for_and_given_up_at_once_is_asked_for():
    assert merge_ingress((), add=[ONE], remove=[ONE]) == OURS


async def test_a_change_is_a_merge_patch_bound_to_its_snapshot(tmp_path):
    written = []
    async with kube_server(answer(200, b"{}")) as server, api_of(server, tmp_path) as api:
        writer = StatusWriter(api, on_conflict=pytest.fail, on_written=written.append)
        writer.set_ingress(seen("web"), OURS)
        assert writer.pending == 1
        async with running(writer.run()):
            await until(lambda: not writer.pending)
    request = server.seen[0]
    assert (request.method, request.path, request.query) == (
        "PATCH",
        "/api/v1/namespaces/default/services/web/status",
        {"fieldManager": "kvip"},
    )
    assert request.headers["Content-Type"] == "application/merge-patch+json"
    assert request.body == {
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "status": {"loadBalancer": {"ingress": [{"ip": ONE, "ipMode": "VIP"}]}},
    }
    assert (writer.written, written) == (1, ["default/web"])


async def test_only_the_last_wish_of_a_service_is_sent(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(200, b"{}")
        writer = StatusWriter(api, on_conflict=pytest.fail)
        for version in range(5):
            writer.set_ingress(seen("web", str(version)), OURS)
        async with running(writer.run()):
            await until(lambda: not writer.pending)
    assert [request.body["metadata"]["resourceVersion"] for request in server.seen] == ["4"]


async def test_a_conflict_asks_for_a_newer_wish_and_does_not_spin(tmp_path):
    conflicts = []
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(409, status(409, "Conflict"))

        def again(key):
            conflicts.append(key)
            writer.set_ingress(seen("web", "still-old"), OURS)

        writer = StatusWriter(api, on_conflict=again, backoff_min_s=0.1)
        writer.set_ingress(seen("web"), OURS)
        async with running(writer.run()):
            await until(lambda: len(conflicts) >= 3)
        gaps = [late.at - early.at for early, late in zip(server.seen, server.seen[1:], strict=False)]
    assert all(gap >= 0.07 for gap in gaps)
    assert gaps[1] > gaps[0]
    assert writer.conflicts == 3


async def test_a_conflict_without_a_new_wish_is_dropped(tmp_path):
    conflicts = []
    async with kube_server(answer(409, status(409, "Conflict"))) as server, api_of(server, tmp_path) as api:
        writer = StatusWriter(api, on_conflict=conflicts.append, backoff_min_s=0.001)
        writer.set_ingress(seen("web"), OURS)
        async with running(writer.run()):
            await until(lambda: not writer.pending)
            await until(lambda: not writer._waiting)
    assert (conflicts, len(server.seen)) == (["default/web"], 1)


UID = 'Service "web" is invalid: metadata.uid: Invalid value: "u": field is immutable'


@pytest.mark.parametrize(("code", "message", "lines"), [(404, "", 0), (422, UID, 0), (422, "ipMode: Unsupported value", 1)])
async def test_a_service_that_is_gone_re_created_or_refuses_is_dropped(tmp_path, caplog, code, message, lines):
    async with kube_server(answer(code, status(code, "X", message))) as server, api_of(server, tmp_path) as api:
        writer = StatusWriter(api, on_conflict=pytest.fail)
        writer.set_ingress(seen("web"), OURS)
        async with running(writer.run()):
            await until(lambda: writer.dropped)
            assert writer.pending == 0
    assert (len(server.seen), len(caplog.records)) == (1, lines)


async def test_failures_are_retried_until_written(tmp_path):
    script = answer(500), answer(403), answer(429, status(429, "TooManyRequests")), hang, answer(200, b"{}")
    async with kube_server(*script) as server, api_of(server, tmp_path) as api:
        writer = StatusWriter(api, on_conflict=pytest.fail, deadline_s=0.5, backoff_min_s=0.001)
        writer.set_ingress(seen("web"), OURS)
        async with running(writer.run()):
            await until(lambda: writer.written)
        assert (writer.pending, writer.failures, len(server.seen)) == (0, 4, 5)


async def test_slow_services_hold_no_other_up_and_requests_are_bounded(tmp_path):
    at_once = most = 0

    async def slow_for_some(request):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            if "slow" in request.path:
                await asyncio.get_running_loop().create_future()
            return web.Response(body=b"{}")
        finally:
            at_once -= 1

    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = slow_for_some
        written = []
        writer = StatusWriter(api, on_conflict=pytest.fail, on_written=written.append)
        for number in range(7):
            writer.set_ingress(seen(f"slow{number}"), OURS)
        for number in range(50):
            writer.set_ingress(seen(f"web{number}"), OURS)
        async with running(writer.run()):
            await until(lambda: len(written) == 50)
        assert (writer.pending, most <= 8) == (7, True)


async def test_what_was_pending_survives_a_restart_of_the_writer(tmp_path):
    async with kube_server(hang) as server, api_of(server, tmp_path) as api:
        writer = StatusWriter(api, on_conflict=pytest.fail)
        writer.set_ingress(seen("web"), OURS)
        async with running(writer.run()):
            await until(lambda: server.seen)
        assert writer.pending == 1
        server.default = answer(200, b"{}")
        async with running(writer.run()):
            await until(lambda: writer.written)


@pytest.mark.parametrize(("node", "sent"), [("n1", "n1"), (None, None)])
async def test_the_holders_name_is_a_patch_of_one_annotation_bound_to_its_snapshot(tmp_path, node, sent):
    async with kube_server(answer(200, b"{}")) as server, api_of(server, tmp_path) as api:
        writer = HostWriter(api, on_conflict=pytest.fail)
        writer.set_host(seen("web"), node)
        async with running(writer.run()):
            await until(lambda: not writer.pending)
    request = server.seen[0]
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/default/services/web")
    assert request.body == {"metadata": {"uid": "u", "resourceVersion": "7", "annotations": {"kube-vip.io/vipHost": sent}}}


async def test_a_writer_waits_for_its_turn_and_sends_the_last_wish_then(tmp_path):
    turn = asyncio.Event()
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(200, b"{}")
        writer = StatusWriter(api, on_conflict=pytest.fail, turn=lambda: turn.wait())
        async with running(writer.run()):
            writer.set_ingress(seen("web", "1"), OURS)
            await asyncio.sleep(0.05)
            writer.set_ingress(seen("web", "2"), OURS)
            await asyncio.sleep(0.05)
            assert not server.seen
            turn.set()
            await until(lambda: not writer.pending)
    assert [request.body["metadata"]["resourceVersion"] for request in server.seen] == ["2"]


async def test_what_waited_for_its_turn_survives_a_restart_of_the_writer(tmp_path):
    turn = asyncio.Event()
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(200, b"{}")
        writer = StatusWriter(api, on_conflict=pytest.fail, turn=lambda: turn.wait())
        writer.set_ingress(seen("web"), OURS)
        async with running(writer.run()):
            await asyncio.sleep(0.05)
        turn.set()
        async with running(writer.run()):
            await until(lambda: not writer.pending)
    assert len(server.seen) == 1
