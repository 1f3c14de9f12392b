"""The schema of annotations: switches, what is not supported and says so, and the reference."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core import annotations as notes
from kvip.core.addresses import Surroundings
from kvip.core.desired import Rules, interpret
from kvip.core.objects import ObjectMeta, Service, ServiceSpec
from kvip.core.problem import MOST_TOLD, Problem, bounded

REFERENCE = Path(__file__).parents[3] / "docs" / "annotations.md"
RULES = Rules(load_balancer_class="kvip.io/kvip")
KUBE_VIPS = (
    "loadbalancerIPs ignore serviceInterface serviceVLAN leaseName forcePerServiceElection allow-reconcile-without-endpoints "
    "ignore-service-security vipHost hwaddr requestedIP loadbalancerHostname macvlanName dhcp-broadcast rp_filter ddns egress "
    "egress-internal egress-ipv6 egress-destination-ports egress-source-ports egress-allowed-networks egress-denied-networks "
    "egress-no-internal-traffic egress-detect-api-server egress-nftables-table active-endpoint active-endpoint-ipv6 flush-conntrack "
    "forwardUPNP upnp-lease-duration"
)


def wish(kind="LoadBalancer", **annotations):
    metadata = ObjectMeta(name="web", namespace="shop", uid="u1", annotations={notes.ADDRESSES: "192.0.2.7", **annotations})
    return interpret(Service(metadata=metadata, spec=ServiceSpec(type=kind)), RULES, Surroundings())


def test_every_annotation_of_kube_vips_is_in_the_schema_once():
    keys = [annotation.key for annotation in notes.SCHEMA]
    assert len(keys) == len(set(keys))
    assert {f"kube-vip.io/{name}" for name in KUBE_VIPS.split()} <= set(keys)


UNSUPPORTED = [annotation for annotation in notes.SCHEMA if annotation.treatment == "not supported"]


@pytest.mark.parametrize("annotation", UNSUPPORTED, ids=lambda annotation: annotation.key)
def test_what_is_not_supported_is_answered_with_key_and_value_and_the_vip_is_served(annotation):
    asked = wish(**{annotation.key: "something"})
    assert asked.addresses == ("192.0.2.7",)
    (problem,) = asked.problems
    assert problem.reason == "NotSupported"
    assert annotation.key in problem.message
    assert "'something'" in problem.message


@pytest.mark.parametrize("value", ["false", "", "0", " False "])
def test_what_is_not_asked_for_needs_no_answer(value):
    assert wish(**{"kube-vip.io/egress": value}).problems == ()


def test_zero_is_a_value_where_it_means_something():
    assert [problem.reason for problem in wish(**{"kube-vip.io/rp_filter": "0"}).problems] == ["NotSupported"]


@pytest.mark.parametrize("key", ["kube-vip.io/vipHost", "kube-vip.io/active-endpoint", "kube-vip.io/egress-nftables-table"])
def test_what_a_daemon_wrote_for_itself_is_no_request(key):
    assert wish(**{key: "n1"}).problems == ()


@pytest.mark.parametrize(
    ("key", "meant"),
    [("kube-vip.io/loadbalancerIps", notes.ADDRESSES), ("kvip.io/nodeselector", notes.NODE_SELECTOR), ("kube-vip.io/Ignore", notes.IGNORE)],
)
def test_a_misspelt_key_is_named_with_what_was_meant(key, meant):
    (problem,) = wish(**{key: "true"}).problems
    assert problem.reason == "UnknownAnnotation"
    assert key in problem.message
    assert meant in problem.message


def test_keys_of_others_are_nobodys_business_here_and_a_foreign_service_hears_nothing():
    assert wish(**{"metallb.io/loadBalancerIPs": "x"}).problems == ()
    assert wish(kind="ClusterIP", **{"kube-vip.io/egress": "true", "kvip.io/node-selector": "((("}).problems == ()


@pytest.mark.parametrize("key", [notes.IGNORE, notes.WITHOUT_ENDPOINTS])
@pytest.mark.parametrize(("value", "on"), [("true", True), (" True ", True), ("false", False), ("", False), ("yes", None), ("1", None)])
def test_a_switch_is_true_or_false_and_anything_else_is_a_problem_and_false(key, value, on):
    value_read, problem = notes.switch({key: value}, key)
    assert value_read is bool(on)
    if on is None:
        assert problem is not None
        assert key in problem.message
        assert repr(value) in problem.message
        assert problem.reason == "InvalidAnnotation"
        assert problem in wish(**{key: value}).problems
    else:
        assert problem is None


KEYS = st.sampled_from([annotation.key for annotation in notes.SCHEMA]) | st.text(max_size=20).map(lambda text: f"kube-vip.io/{text}")


@given(st.dictionaries(KEYS, st.text(max_size=40) | st.sampled_from(["true", "192.0.2.9", "a=b", "n1,n2", "x in (", "70000", "eth0.5000"])))
def test_whatever_is_annotated_gives_addresses_and_problems_that_name_their_key_and_nothing_else(annotations):
    metadata = ObjectMeta(name="web", namespace="shop", uid="u1", annotations=annotations)
    asked = interpret(Service(metadata=metadata, spec=ServiceSpec(type="LoadBalancer")), RULES, Surroundings())
    assert set(asked.addresses) <= asked.listed
    for problem in asked.problems:
        assert "annotation kube-vip.io/" in problem.message or "annotation kvip.io/" in problem.message
        assert len(problem.message) < 500


def test_one_service_does_not_fill_the_queue_of_events():
    problems = [Problem(reason="InvalidAddress", message=str(number)) for number in range(10_000)]
    told = bounded([*problems, *problems])
    assert len(told) == MOST_TOLD + 1
    assert told[:MOST_TOLD] == tuple(problems[:MOST_TOLD])
    assert str(10_000 - MOST_TOLD) in told[-1].message


def test_the_reference_is_current():
    command = "python -c 'from kvip.core.annotations import *; print(reference_markdown(), end=\"\")' > docs/annotations.md"
    assert REFERENCE.read_text() == notes.reference_markdown(), f"out of date; run: {command}"
    assert all(f"`{annotation.key}`" in notes.reference_markdown() for annotation in notes.SCHEMA)
