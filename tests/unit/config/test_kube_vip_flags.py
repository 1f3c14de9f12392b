"""The command line of kube-vip."""

import contextlib

import pytest

from kvip.aliases import FOREIGN
from kvip.errors import ConfigError
from kvip.kube_vip_flags import FLAGS
from kvip.options import OPTIONS
from tests.unit.config.loading import OVERRIDES, SAMPLES, loaded, provoking, refused


def test_the_documented_command_line_starts_kvip():
    result = loaded(
        "--interface", "eth0", "--services", "--arp", "--leaderElection", "--leaseDuration=10", "--leaseRenewDuration", "6",
        "--leaseRetry", "2", "--nodeName", "N7", "-n", "net", "--prometheusHTTPServer", ":9",
    )  # fmt: skip
    settings = result.settings
    assert (settings.interface, settings.namespace, settings.node_name, settings.metrics_address) == ("eth0", "net", "n7", ":9")
    assert (settings.lease_duration_s, settings.renew_deadline_s, settings.retry_period_s) == (10, 6, 2)
    assert (settings.election, result.warnings) == ("global", ())


def test_kube_vips_flag_yields_to_its_variable_and_both_to_kvips_own():
    assert loaded("--leaseDuration", "9", toml="lease-duration = 10").settings.lease_duration_s == 9
    assert loaded("--leaseDuration", "9", vip_leaseduration="8").settings.lease_duration_s == 8
    assert loaded("--leaseDuration", "9", vip_leaseduration="").settings.lease_duration_s == 9
    assert loaded("--leaseDuration", "9", KVIP_LEASE_DURATION="7").settings.lease_duration_s == 7
    assert loaded("--leaseDuration", "9", "--lease-duration", "6").settings.lease_duration_s == 6


@pytest.mark.parametrize(
    "flag", ["--controlplane", "--bgp", "--table", "--wireguard", "--enableLoadBalancer", "--ddns", "--services=false",
             "--leaderElectionType=etcd", "--config-file=/a"],
)  # fmt: skip
def test_a_flag_that_would_change_who_holds_is_refused_by_its_name(flag):
    error = refused(flag)
    assert error.source == f"flag {flag.partition('=')[0]}"


def test_a_flag_that_is_not_followed_is_warned_about_by_its_name():
    assert loaded("--enableNodeLabeling").warnings == ("flag --enableNodeLabeling is ignored: kvip writes no labels to Nodes",)
    assert loaded("--leaderElectionType", "kubernetes", "--port", "6443", "--zebra=false", "--debounceTime", "1s").warnings == ()


def test_a_value_that_cannot_be_used_names_kube_vips_flag():
    assert refused("--leaseDuration", "soon").source == "flag --leaseDuration"
    assert refused("--arp=perhaps").source == "flag --arp"
    assert refused("--noSuchFlag").path == "command line"


def test_a_password_on_kube_vips_command_line_is_not_repeated():
    result = loaded("--peerPass", "s3cret", "--enableNodeLabeling")
    assert "s3cret" not in str(result)


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_every_flag_of_kube_vips_is_known(flag):
    with contextlib.suppress(ConfigError):
        loaded(f"--{flag}", "true", files={"true": ""})
    text = str(refused(f"--{flag}", "x", "--noSuchFlag"))
    assert "noSuchFlag" in text
    assert flag not in text.replace("noSuchFlag", "")


def samples(variable):
    """Values of a variable that are not its default: kvip uses them or, where it does not follow the variable, may say so."""
    for option in OPTIONS:
        if variable in option.alias and option.kind == "switch":
            return [str(not option.default).lower()]
        if variable in option.alias:
            return [(OVERRIDES.get(option.name) or SAMPLES[option.kind])[0]]
    return [provoking(foreign) for foreign in FOREIGN if foreign.name == variable] + ["true", "false"]


def outcome(*argv, **environ):
    """What comes of settings, whatever their source is called."""
    try:
        result = loaded(*argv, files={"/kube": ""}, **environ)
    except ConfigError as error:
        return error.path, error.problem
    return result.settings, *(warning.partition(" is ")[2] for warning in result.warnings)


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_a_flag_of_kube_vips_means_what_its_variable_means(flag):
    variable = FLAGS[flag]
    for value in samples(variable):
        for base in ((), ("--election=claims",)):
            by_variable = outcome(*base, **{variable: value})
            assert outcome(*base, f"--{flag}={value}") == outcome(*base, f"--{flag}", value) == by_variable
    treatment = next((foreign.treatment for foreign in FOREIGN if foreign.name == variable), "set")
    changes = any(outcome("--election=claims", **{variable: value}) != outcome("--election=claims") for value in samples(variable))
    assert changes == (treatment in ("set", "warned", "refused"))
