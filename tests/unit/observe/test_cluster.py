"""The whole cluster by its Leases and Services: who holds what, whether that one lives, and what nobody gets."""

from datetime import timedelta

import msgspec
import pytest

from kvip.cli.explain_text import explanation_lines
from kvip.core.desired import Rules
from kvip.core.election import heartbeat
from kvip.core.objects import Endpoint, EndpointConditions, EndpointSlice, Lease, LeaseSpec, ObjectMeta
from kvip.observe.cluster import Cluster, Objects, Terms
from kvip.observe.explaining import explain
from lab import transcripts
from lab.knowledge import INSTANTS, ITS, MINE, WALL, node, service

VIP, OTHER = "10.10.0.200", "10.10.0.201"
RULES = Rules(load_balancer_class="kube-vip.io/kube-vip-class")


def beat(name, incarnation, *, age_s=0.4):
    return transcripts.beat(name, incarnation, age_s=age_s)


def lease(name, holder, *, namespace="kube-system", age_s=0.4, mark=""):
    return Lease(
        metadata=ObjectMeta(name=name, namespace=namespace, resource_version="1", annotations={"kvip.io/succeeds": mark} if mark else None),
        spec=LeaseSpec(holder_identity=holder, lease_duration_seconds=5, renew_time=(WALL - timedelta(seconds=age_s)).isoformat()),
    )


def cluster(*leases, services=None, rules=RULES, **objects):
    services = services if services is not None else (service("web", VIP, shows=[VIP]),)
    return Cluster(Objects(services=tuple(services), leases=leases, **objects), Terms(rules=rules), wall=WALL)


def one(*leases, **more):
    (row,) = cluster(*leases, **more).view().vips
    return row


def test_a_claim_of_a_living_incarnation_is_held():
    view = cluster(beat("n1", MINE), beat("n2", ITS), *transcripts.claims({MINE: (VIP,)})).view()
    (row,) = view.vips
    assert (view.election, row.state, row.node, row.holder, row.in_status) == ("claims", "held", "n1", MINE, True)
    assert [(each.node, each.state, each.vips, each.nics) for each in view.nodes] == [
        ("n1", "alive", 1, ("eth0",)),
        ("n2", "alive", 0, ("eth0",)),
    ]


def test_a_claim_of_a_silent_or_a_former_incarnation_is_not():
    claims = transcripts.claims({MINE: (VIP,)})
    silent = one(beat("n1", MINE, age_s=30), *claims)
    assert (silent.state, silent.node, silent.reason) == ("expired", "n1", "its holder's heartbeat stands still")
    assert one(beat("n1", f"n1_{9:032x}"), *claims).state == "expired"
    assert one(beat("n2", ITS), *claims).state == "expired"


def test_a_heartbeat_that_was_given_back_has_ended():
    before = heartbeat.parse(beat("n1", MINE))
    spec, notes = heartbeat.ending(MINE, "released", sequence=8, before=before)
    ended = Lease(metadata=ObjectMeta(name="kvip-node-n1", namespace="kube-system", resource_version="2", annotations=notes), spec=spec)
    assert [each.state for each in cluster(ended).view().nodes] == ["ended"]


@pytest.mark.parametrize(
    ("leases", "election", "node_"),
    [
        ([lease("plndr-svcs-lock", MINE)], "global", "n1"),
        ([lease("plndr-svcs-lock", "n2")], "global", "n2"),
        ([lease("plndr-svcs-lock", MINE, mark="per-service/0"), lease("kubevip-web", ITS, namespace="default")], "per-service", "n2"),
        ([lease("kubevip-web", "n2", namespace="default")], "per-service", "n2"),
    ],
)
def test_the_mode_and_the_holder_are_told_by_the_leases_that_there_are(leases, election, node_):
    made = cluster(*leases)
    (row,) = made.view().vips
    assert (made.election, row.state, row.node) == (election, "held", node_)


def test_a_service_that_asked_for_a_lease_of_its_own_hangs_on_that():
    forced = service("web", VIP, annotations={"kube-vip.io/forcePerServiceElection": "true"})
    leases = [lease("plndr-svcs-lock", MINE), lease("kubevip-web", ITS, namespace="default")]
    assert one(*leases, services=[forced]).node == "n2"
    assert one(leases[0], services=[forced]).node == "n1"


def test_a_lease_that_says_no_time_is_not_believed_to_live():
    mute = msgspec.structs.replace(lease("plndr-svcs-lock", MINE), spec=LeaseSpec(holder_identity=MINE, lease_duration_seconds=5))
    assert one(mute).state == "expired"


def test_what_nobody_gets_is_there_with_the_reason():
    services = [
        service("old", VIP, created="2026-01-01T00:00:00Z"), service("young", VIP), service("typo", "x"),
        service("local", OTHER, local=True), service("other", "10.10.0.202", spec={"load_balancer_class": "example.com/lb"}),
    ]  # fmt: skip
    rows = cluster(beat("n1", MINE), *transcripts.claims({MINE: (VIP,)}), services=services).view().vips
    assert [(row.vip, row.state, row.services[0].service) for row in rows] == [
        (VIP, "held", "default/old"),
        (VIP, "conflict", "default/young"),
        (OTHER, "pending", "default/local"),
        ("x", "invalid", "default/typo"),
    ]
    assert rows[2].reason == "externalTrafficPolicy is Local, and it has no endpoints"


def test_an_explanation_from_outside_names_the_holder_or_the_cause():
    slices = (
        EndpointSlice(
            metadata=ObjectMeta(name="s", namespace="default", labels={"kubernetes.io/service-name": "web"}),
            endpoints=(Endpoint(node_name="n1", conditions=EndpointConditions(ready=True)),),
        ),
    )
    local = service("web", VIP, local=True, shows=[VIP])
    held = [beat("n1", MINE), *transcripts.claims({MINE: (VIP,)})]
    works = explain(cluster(*held, services=[local], slices=slices, nodes=(node("n1"),)).case("default/web"), INSTANTS)
    assert works.works
    assert next(step for step in works.steps if step.question.startswith("Which nodes")).answer == "n1"
    missing = explanation_lines(explain(cluster(*held, services=[local]).case("default/web"), INSTANTS))
    assert missing[-1] == f"cause: {VIP}: externalTrafficPolicy is Local, and it has no endpoints"
    nobody = explain(cluster(beat("n1", MINE)).case("default/web"), INSTANTS)
    assert nobody.cause == f"{VIP}: no node has taken it yet"
    assert "see that kvip runs on the nodes" in nobody.next
