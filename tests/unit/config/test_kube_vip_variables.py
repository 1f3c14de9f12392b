"""The variables of kube-vip that are no settings: refused, warned about, or without effect; and those that nobody knows."""

import pytest

from kvip.aliases import FOREIGN
from kvip.options import OPTIONS
from kvip.settings import Settings
from tests.unit.config.loading import loaded, provoking, refused


@pytest.mark.parametrize("foreign", [item for item in FOREIGN if item.treatment == "refused"], ids=lambda item: item.name)
def test_what_would_change_who_holds_a_vip_is_refused(foreign):
    error = refused(**{foreign.name: provoking(foreign)})
    assert (error.path, error.source, error.problem) == (foreign.name, f"variable {foreign.name}", foreign.note)


@pytest.mark.parametrize("foreign", [item for item in FOREIGN if item.treatment == "warned"], ids=lambda item: item.name)
def test_what_is_not_implemented_is_named_in_a_warning(foreign):
    assert loaded(**{foreign.name: provoking(foreign)}).warnings == (f"variable {foreign.name} is ignored: {foreign.note}",)


@pytest.mark.parametrize("foreign", [item for item in FOREIGN if item.treatment == "none"], ids=lambda item: item.name)
def test_what_has_no_effect_is_silent(foreign):
    assert loaded("--election=claims", **{foreign.name: "something"}) == loaded()


@pytest.mark.parametrize("foreign", [item for item in FOREIGN if item.when in ("true", "false")], ids=lambda item: item.name)
def test_switches_are_read_as_go_reads_them(foreign):
    harmless = {"true": ("0", "f", "F", "false", "False", "FALSE"), "false": ("1", "t", "T", "true", "True", "TRUE")}[foreign.when]
    assert all(loaded("--election=claims", **{foreign.name: text}) == loaded() for text in harmless)
    for text in ("yes", "tRUE", " true", "2"):
        error = refused(**{foreign.name: text})
        assert (error.path, error.problem) == (foreign.name, f"true or false is expected, got {text!r}")


@pytest.mark.parametrize("text", ["32", "128", "/32", "/128", "32,128", "/32,/128", "128,32"])
def test_host_prefixes_are_no_reason_to_warn(text):
    assert loaded(vip_subnet=text).warnings == ()


@pytest.mark.parametrize("text", ["24", "auto", "/24,/64", "32,64"])
def test_other_prefixes_warn(text):
    assert loaded(vip_subnet=text).warnings == ("variable vip_subnet is ignored: kvip binds VIPs as /32 and /128, always",)


@pytest.mark.parametrize(
    "name",
    # The list that the classification must cover; each name must be a setting's alias or in the table.
    [
        "svc_enable",
        "vip_arp",
        "cp_enable",
        "bgp_enable",
        "vip_routingtable",
        "vip_wireguard",
        "enable_upnp",
        "lb_enable",
        "vip_preserve_on_leadership_loss",
        "vip_ddns",
        "config_file",
    ],
)
def test_the_dangerous_ones_are_classified_as_refused(name):
    assert [item.treatment for item in FOREIGN if item.name == name] == ["refused"]


def test_no_variable_is_classified_twice():
    names = [item.name for item in FOREIGN] + [alias for option in OPTIONS for alias in option.alias]
    assert len(names) == len(set(names))


def test_a_typical_kube_vip_manifest_starts_without_a_warning():
    environ = {
        "vip_arp": "true",
        "port": "6443",
        "vip_nodename": "n1",
        "vip_interface": "eth0",
        "dns_mode": "first",
        "svc_enable": "true",
        "svc_leasename": "plndr-svcs-lock",
        "vip_leaderelection": "true",
        "vip_leasename": "plndr-cp-lock",
        "vip_leaseduration": "15",
        "vip_renewdeadline": "10",
        "vip_retryperiod": "2",
        "prometheus_server": ":2112",
    }
    result = loaded(**environ)
    assert result.warnings == ()
    assert result.settings == Settings(
        node_name="n1",
        interface="eth0",
        election="global",
        lease_duration_s=15,
        renew_deadline_s=10,
        retry_period_s=2,
        socket="/run/kvip/kvip.sock",
    )


def test_passwords_are_not_shown():
    assert "hunter2" not in repr(loaded(bgp_peerpass="hunter2"))


def test_misspelt_own_variable_warns_with_a_guess():
    assert loaded(KVIP_LEASE_DURATON="7").warnings == ("variable KVIP_LEASE_DURATON is no setting; did you mean KVIP_LEASE_DURATION?",)


def test_misspelt_kube_vip_variable_warns_with_a_guess():
    assert loaded(vip_interfce="eth0").warnings == ("variable vip_interfce is not known and ignored; did you mean vip_interface?",)


@pytest.mark.parametrize(
    "name",
    [
        "KVIP_STATE_DIR",
        "KVIP_NO_EXTENSIONS",
        "KVIP_LAB_ANYTHING",
        "KVIP_SERVICE_HOST",
        "KVIP_SERVICE_PORT",
        "KVIP_SERVICE_PORT_HTTP",
        "KVIP_PORT",
        "KVIP_PORT_80_TCP",
        "KVIP_PORT_80_TCP_ADDR",
        "KVIP_METRICS_SERVICE_HOST",
        "KVIP_METRICS_PORT_2112_TCP_PROTO",
    ],
)
def test_variables_of_others_do_not_warn(name):
    assert loaded(**{name: "/x"}).warnings == ()
