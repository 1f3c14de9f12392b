"""Which Lease a Service hangs on, and by which Leases an address that Services share is held (G3)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.annotations import FORCE_ELECTION, LEASE_NAME
from kvip.core.election.services import Scheme, Standing, granted, in_turn, lease_of
from kvip.core.objects import ObjectMeta, Service, ServiceSpec

OURS, FREE, OTHERS = Standing.OURS, Standing.FREE, Standing.OTHERS
SHARED = "kube-system/plndr-svcs-lock"


def service(*, policy="Cluster", **notes):
    keys = {"lease": LEASE_NAME, "force": FORCE_ELECTION}
    annotations = {keys[key]: value for key, value in notes.items()}
    return Service(
        metadata=ObjectMeta(name="web", namespace="shop", annotations=annotations), spec=ServiceSpec(external_traffic_policy=policy)
    )


@pytest.mark.parametrize(
    ("made", "scheme", "lease"),
    [
        (service(), Scheme(), "shop/kubevip-web"),
        (service(lease="front"), Scheme(), "shop/front"),
        (service(lease="other/front"), Scheme(), "other/front"),
        (service(lease="kube-vip.example/x"), Scheme(), "shop/kubevip-web"),
        (service(lease=""), Scheme(), "shop/kubevip-web"),
        (service(lease="front", policy="Local"), Scheme(), "shop/kubevip-web"),
        (service(), Scheme(shared=SHARED), SHARED),
        (service(force="false"), Scheme(shared=SHARED), SHARED),
        (service(force="true"), Scheme(shared=SHARED), "shop/kubevip-web"),
        (service(force="True", lease="front"), Scheme(shared=SHARED), "shop/front"),
        (service(lease="front"), Scheme(shared=SHARED), SHARED),
    ],
)
def test_the_lease_of_a_service_is_called_as_kube_vip_calls_it(made, scheme, lease):
    assert lease_of(made, scheme).lease == lease


@pytest.mark.parametrize(
    "named", ["UPPER", "a b", "a/b/c", "/front", "shop/", "-", "x" * 254, "kube-system/kube-scheduler", "kube-node-lease/n1"]
)
def test_a_name_that_is_none_or_the_clusters_own_is_reported_and_the_services_own_lease_is_used(named):
    asked = lease_of(service(lease=named), Scheme())
    assert asked.lease == "shop/kubevip-web"
    assert LEASE_NAME in asked.problem
    assert "shop/kubevip-web" in asked.problem
    assert len(asked.problem) < 250


@given(st.text())
def test_no_annotation_makes_a_lease_outside_its_rules(named):
    asked = lease_of(service(lease=named), Scheme())
    namespace, _, name = asked.lease.partition("/")
    assert name
    assert "/" not in name
    assert not namespace.startswith("kube-")


A, B, C = "shop/a", "shop/b", "shop/c"


@pytest.mark.parametrize(
    ("required", "under", "standing", "then"),
    [
        ([A], [], {A: OURS}, [A]),
        ([A], [], {A: FREE}, []),
        ([A, B], [], {A: OURS, B: FREE}, []),
        ([A, B], [], {A: OURS, B: OURS}, [A, B]),
        ([A, B], [A], {A: OURS, B: FREE}, [A]),
        ([A, B], [A], {A: OURS, B: OTHERS}, []),
        ([A, B], [A], {A: OURS, B: OURS}, [A, B]),
        ([A], [A, B], {A: OURS, B: OURS}, [A]),
        ([A, B], [A, B], {A: OURS, B: FREE}, []),
        ([B], [A], {A: OURS, B: FREE}, [A]),
        ([B], [A], {A: OURS, B: OTHERS}, []),
        ([B], [A], {A: FREE, B: FREE}, []),
        ([], [A], {A: OURS}, []),
    ],
)
def test_g3_by_which_leases_an_address_is_held(required, under, standing, then):
    assert granted(required, frozenset(under), standing) == frozenset(then)


def test_g3_never_held_beside_somebody_elses_lease():
    for required in ([A], [A, B], [A, B, C]):
        for under in ([], [A], [A, B], [C]):
            for states in itertools.product(Standing, repeat=3):
                standing = dict(zip([A, B, C], states, strict=True))
                held = granted(required, frozenset(under), standing)
                assert all(standing[lease] is OURS for lease in held)
                if held:
                    assert all(standing[lease] is not OTHERS for lease in required)


@pytest.mark.parametrize(
    ("first", "holding", "turn"),
    [(OURS, False, True), (FREE, False, False), (OTHERS, False, False), (OURS, True, True), (FREE, True, True), (OTHERS, True, False)],
)
def test_g3_who_holds_the_first_takes_the_next_and_who_cannot_have_the_first_gives_up_the_next(first, holding, turn):
    standing = {A: first, B: OURS if holding else FREE}
    assert in_turn(B, [(A, B)], standing, holding=holding) is turn
    assert in_turn(A, [(A, B)], standing, holding=holding)
