"""Timers that fit each other, and which election mode the settings choose."""

import pytest

from kvip.reference import reference_markdown
from tests.unit.config.loading import ACCOUNT, loaded, refused


@pytest.mark.parametrize(
    ("lease", "renew", "retry"), [("5", "4", "2"), ("15", "10", "2"), ("15", "12", "6"), ("1.5", "0.5", "0.25"), ("0.3e1", "2", "1")]
)
def test_timers_that_fit(lease, renew, retry):
    loaded(vip_leaseduration=lease, vip_renewdeadline=renew, vip_retryperiod=retry)


@pytest.mark.parametrize(("lease", "renew"), [("5", "4.5"), ("5", "5"), ("5", "6"), ("15", "12.5"), ("3", "2.1"), ("20", "17")])
def test_too_small_a_margin_is_refused_with_a_way_out_that_works(lease, renew):
    error = refused(KVIP_LEASE_DURATION=lease, vip_renewdeadline=renew)
    assert error.path == "renew-deadline"
    assert error.source == "variable KVIP_LEASE_DURATION, variable vip_renewdeadline"
    assert f"{renew} s leaves" in error.problem
    assert f"lease-duration {lease} s" in error.problem
    advice = error.problem.rpartition("to at least ")[2].removesuffix(" s")
    assert loaded(KVIP_LEASE_DURATION=advice, vip_renewdeadline=renew).settings.renew_deadline_s == float(renew)
    shorter = error.problem.partition("renew-deadline to at most ")[2].partition(" s")[0]
    assert not shorter or loaded(KVIP_LEASE_DURATION=lease, vip_renewdeadline=shorter)


def test_too_long_a_retry_period_is_refused_with_a_way_out():
    error = refused("--retry-period=1.6")
    assert error.path == "retry-period"
    assert error.problem == (
        "1.6 s is more than half of renew-deadline 3 s; set retry-period to at most 1.5 s, or renew-deadline to at least 3.2 s"
    )


def test_lease_too_short_for_the_default_deadline_is_refused():
    assert refused(vip_leaseduration="3").path == "renew-deadline"


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({"svc_election": "true"}, "per-service"),
        ({"svc_election": "true", "per_service_election_on_demand": "true"}, "per-service"),
        ({"svc_election": "T", "KVIP_ELECTION": "per-service"}, "per-service"),
        ({"KVIP_ELECTION": "per-service", "vip_interface": "eth0"}, "per-service"),
        ({"svc_election": "true", "KVIP_ELECTION": "claims"}, "claims"),
        ({"per_service_election_on_demand": "true"}, "global"),
        ({"per_service_election_on_demand": "false", "vip_interface": "eth0"}, "global"),
    ],
)
def test_g5_which_mode_kube_vips_settings_choose(environ, mode):
    assert loaded(**environ).settings.election == mode


def test_leases_for_some_services_go_with_global_only():
    error = refused(KVIP_ELECTION="claims", per_service_election_on_demand="true")
    assert (error.path, error.source) == ("per-service-on-demand", "variable per_service_election_on_demand")
    assert "election=global" in error.problem


def test_a_lost_link_is_followed_without_a_warning():
    assert loaded(vip_loseleadership="true", vip_loseleadership_timeout_seconds="5").warnings == ()
    (row,) = (line for line in reference_markdown().splitlines() if line.startswith("| `vip_loseleadership` "))
    assert "followed when true" in row


def test_global_with_per_service_election_is_a_contradiction():
    error = refused(KVIP_ELECTION="global", svc_election="T")
    assert error.path == "election"
    assert "contradicts svc_election=true" in error.problem
    assert error.source == "variable KVIP_ELECTION, variable svc_election"


def test_global_election_with_svc_election_false():
    assert loaded(svc_election="false").settings.election == "global"


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "claims"),
        ({"cp_namespace": "kube-system", "lb_class_only": "false"}, "claims"),
        ({"vip_interface": "eth0"}, "global"),
        ({"svc_enable": "true"}, "global"),
        ({"vip_interface": ""}, "claims"),
        ({"vip_interface": "eth0", "KVIP_ELECTION": "claims"}, "claims"),
        ({"KVIP_ELECTION": "global"}, "global"),
    ],
)
def test_g5_the_mode_is_the_one_set_else_kube_vips_else_claims(environ, mode):
    assert loaded(**environ).settings.election == mode


def test_cp_namespace_that_kube_vip_would_not_follow_is_refused():
    files = {f"{ACCOUNT}/namespace": "lb-system\n"}
    error = refused(cp_namespace="kube-system", files=files)
    assert (error.path, error.source) == ("namespace", "variable cp_namespace")
    assert "'lb-system'" in error.problem
    assert loaded(cp_namespace="lb-system", files=files).settings.namespace == "lb-system"
    assert loaded(KVIP_NAMESPACE="kube-system", cp_namespace="kube-system", files=files).settings.namespace == "kube-system"
    assert loaded(cp_namespace="elsewhere").settings.namespace == "elsewhere"
