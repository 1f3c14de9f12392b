"""What doctor asks the API server: each question on its own, a refusal noted, silence the end of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from kvip.clock import ManualClock
from kvip.core.desired import Rules
from kvip.core.doctor.facts import Right
from kvip.core.rights import rules_for
from kvip.kube import survey
from kvip.kube.survey import Survey, rights_of, skew_s
from kvip.settings import Settings
from tests.unit.kube.kube_server import answer, api_of, hang, kube_server, listing, service, status

SETTINGS = Settings(node_name="n1", election="claims")
POD = {
    "metadata": {"name": "speaker-x", "namespace": "metallb-system"},
    "spec": {"containers": [{"image": "quay.io/metallb/speaker:v1", "env": [{"name": "A", "value": "b"}, {"name": "F", "valueFrom": {}}]}]},
}
DATE = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
LISTS = {
    "/api/v1/nodes": listing(1, {"metadata": {"name": "n1"}}),
    "/api/v1/services": listing(
        1,
        service("web", 1, spec={"type": "LoadBalancer", "loadBalancerIP": "10.10.0.200"}),
        service("theirs", 1, spec={"type": "LoadBalancer", "loadBalancerIP": "10.10.0.201", "loadBalancerClass": "metallb"}),
        service("plain", 1, spec={"type": "ClusterIP"}),
    ),
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases": listing(1, {"metadata": {"name": "x"}}),
    "/api/v1/pods": listing(1, POD),
}


def cluster(*, refused=(), denied=()):
    """Answers like an API server that refuses some paths (403) and denies some verbs on a resource."""

    async def reply(request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in refused:
            return await answer(403, status(403, "Forbidden"))(request)
        if path in LISTS:
            return await answer(200, LISTS[path])(request)
        if path == "/readyz":
            return web.Response(text="ok", headers=DATE)
        if path.endswith("selfsubjectreviews"):
            return await answer(201, {"status": {"userInfo": {"username": "admin"}}})(request)
        asked = json.loads(await request.read())["spec"]["resourceAttributes"]
        return await answer(201, {"status": {"allowed": (asked["verb"], asked["resource"], asked["subresource"]) not in denied}})(request)

    return reply


def survey_of(api, server, settings=SETTINGS):
    return Survey(api, settings, server=server.url, rules=Rules(load_balancer_class=settings.load_balancer_class), clock=ManualClock())


async def test_everything_is_asked_and_put_down(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = cluster()
        survey = survey_of(api, server)
        facts = await survey.run()
    assert survey.unseen == []
    assert (facts.user, facts.skew_s, [node.metadata.name for node in facts.nodes]) == ("admin", 0.0, ["n1"])
    assert {vip: [(owner.service, owner.ours) for owner in owners] for vip, owners in facts.vips.items()} == {
        "10.10.0.200": [("default/web", True)],
        "10.10.0.201": [("default/theirs", False)],
    }
    assert (facts.pods[0].key, facts.pods[0].images, facts.pods[0].environment) == (
        "metallb-system/speaker-x",
        ("quay.io/metallb/speaker:v1",),
        {"A": "b"},
    )
    assert next(seen for seen in server.seen if seen.path == "/api/v1/pods").query["fieldSelector"] == "spec.nodeName=n1"
    assert facts.asked == rights_of(SETTINGS)
    assert facts.denied == ()
    assert {seen.method for seen in server.seen} == {"GET", "POST"}, "and the POSTs are reviews, which are not stored"
    assert {seen.path.rpartition("/")[2] for seen in server.seen if seen.method == "POST"} == {
        "selfsubjectreviews",
        "selfsubjectaccessreviews",
    }


async def test_exactly_the_rights_of_the_manifest_are_asked_for(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = cluster(denied={("patch", "services", "status"), ("update", "leases", "")})
        facts = await survey_of(api, server).run()
    asked = [seen.body["spec"]["resourceAttributes"] for seen in server.seen if seen.path.endswith("accessreviews")]
    granted = {
        (namespace, rule.group, *resource.partition("/")[::2], verb)
        for namespace, rules in rules_for(SETTINGS).items()
        for rule in rules
        for resource in rule.resources
        for verb in rule.verbs
    }
    assert {(a["namespace"], a["group"], a["resource"], a["subresource"], a["verb"]) for a in asked} == granted
    assert facts.denied == (
        Right(namespace="", group="", resource="services/status", verb="patch"),
        Right(namespace="kube-system", group="coordination.k8s.io", resource="leases", verb="update"),
    )


async def test_a_refusal_is_noted_and_the_rest_is_asked_all_the_same(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = cluster(refused={"/api/v1/pods", "/api/v1/services"})
        survey = survey_of(api, server)
        facts = await survey.run()
    assert [(unseen.what, unseen.why) for unseen in survey.unseen] == [
        ("Services", "403 Forbidden"),
        ("Pods on this node", "403 Forbidden"),
    ]
    assert (facts.vips, facts.pods) == (None, None)
    assert facts.asked


async def test_a_server_that_does_not_answer_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "DEADLINE_S", 0.05)
    requests = []
    async with kube_server() as server, api_of(server, tmp_path, on_request=lambda verb, code: requests.append((verb, code))) as api:
        server.default = hang
        asked = survey_of(api, server)
        assert await asked.run() is None
    assert requests == [("GET", 0)]
    assert "no answer" in asked.unseen[0].why


async def test_a_server_that_falls_silent_leaves_what_it_said(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "DEADLINE_S", 0.2)
    whole = cluster()

    async def reply(request: web.Request) -> web.StreamResponse:
        return await (hang(request) if request.path == "/api/v1/services" else whole(request))

    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = reply
        asked = survey_of(api, server)
        facts = await asked.run()
    assert [node.metadata.name for node in facts.nodes] == ["n1"]
    assert (facts.vips, facts.asked) == (None, ())
    assert asked.unseen[-1].what == "the cluster"


async def test_one_namespace_only(tmp_path):
    settings = Settings(node_name="n1", election="claims", service_namespace="shop")
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(200, {**listing(1), "status": {"allowed": True, "userInfo": {}}})
        facts = await survey_of(api, server, settings).run()
    assert "/api/v1/namespaces/shop/services" in {seen.path for seen in server.seen}
    assert {right.namespace for right in facts.asked} == {"", "shop", "default", "kube-system"}


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead_s", "took_s", "expected"),
    [(0.0, 0.0, 0.0), (-0.9, 0.0, 0.0), (0.5, 0.5, 0.0), (100.0, 0.0, 100.0), (-100.0, 0.0, -99.0), (100.0, 2.0, 98.0)],
)
def test_the_difference_of_the_clocks_is_what_the_header_cannot_explain(ahead_s, took_s, expected):
    sent = NOON - timedelta(seconds=ahead_s)
    header = "Thu, 01 Jan 2026 12:00:00 GMT"
    assert skew_s(header, before=sent, after=sent + timedelta(seconds=took_s)) == pytest.approx(expected)


@pytest.mark.parametrize("header", ["", "yesterday", "Thu, 01 Jan 2026 12:00:00"])
def test_a_date_that_cannot_be_read_tells_nothing(header):
    assert skew_s(header, before=NOON, after=NOON) is None
