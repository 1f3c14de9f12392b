"""Settings: where a value comes from, what is refused, what is warned about, and the reference."""

import argparse
import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.aliases import FOREIGN, parse_bool
from kvip.checks import parse_listen
from kvip.config import Loaded, SystemFiles, add_arguments, load
from kvip.core.objects import ManagedService, Service
from kvip.daemon.terms import rules_of, service_kind
from kvip.errors import ConfigError
from kvip.kube_vip_flags import BY_VARIABLE, FLAGS
from kvip.options import OPTIONS
from kvip.reference import reference_markdown
from kvip.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "configuration.md"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class FakeFiles:
    """A file system of the given files."""

    def __init__(self, **files: str | bytes) -> None:
        self.files = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files


def loaded(*argv: str, toml: str | bytes | None = None, files: dict[str, str] | None = None, **environ: str) -> Loaded:
    contents: dict[str, str | bytes] = dict(files or {})
    if toml is not None:
        contents["/kvip.toml"] = toml
        environ.setdefault("KVIP_CONFIG", "/kvip.toml")
    return load(argv, environ, files=FakeFiles(**contents), hostname="Node-1.example")


def refused(*argv: str, **kwargs: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(*argv, **kwargs)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{caught.value.path}: ")
    assert caught.value.source in str(caught.value)
    return caught.value


# Sources and their order


def test_defaults_are_the_documented_ones():
    result = loaded()
    assert result == Loaded(settings=Settings(node_name="node-1.example", election="claims", socket="/run/kvip/kvip.sock"))
    assert (result.settings.lease_duration_s, result.settings.renew_deadline_s, result.settings.retry_period_s) == (5, 3, 1)


def test_the_socket_for_readers_is_in_the_state_dir_unless_named_or_off():
    assert loaded("--state-dir", "/var/kvip").settings.socket == "/var/kvip/kvip.sock"
    assert loaded("--state-dir", "/var/kvip", "--socket", "/run/x").settings.socket == "/run/x"
    assert loaded("--socket", "off").settings.socket == ""


def test_flag_beats_own_variable_beats_kube_vip_variable_beats_file_beats_default():
    sources = {"KVIP_LEASE_DURATION": "7", "vip_leaseduration": "8"}
    toml = "lease-duration = 9"
    assert loaded("--lease-duration", "6", toml=toml, **sources).settings.lease_duration_s == 6
    assert loaded(toml=toml, **sources).settings.lease_duration_s == 7
    del sources["KVIP_LEASE_DURATION"]
    assert loaded(toml=toml, **sources).settings.lease_duration_s == 8
    assert loaded(toml=toml).settings.lease_duration_s == 9
    assert loaded().settings.lease_duration_s == 5


SAMPLES = {
    "text": ("eth7", "eth7"),
    "switch": ("true", True),
    "number": ("2.5", 2.5),
    "integer": ("100", 100),
}
OVERRIDES = {
    "kubeconfig": ("/kube", "/kube"),
    "metrics-address": ("[::1]:9", "[::1]:9"),
    "state-dir": ("/var/lib/kvip", "/var/lib/kvip"),
    "socket": ("/run/other.sock", "/run/other.sock"),
    "election": ("global", "global"),
    "stray-action": ("remove", "remove"),
    "log-format": ("logfmt", "logfmt"),
    "log-level": ("debug", "debug"),
    "loop": ("asyncio", "asyncio"),
    "lease-duration": ("5.5", 5.5),
    "retry-period": ("1.5", 1.5),
    "health-check-port": ("10256", 10256),
    "allow-cidr": ("192.0.2.0/24", "192.0.2.0/24"),
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_setting_is_settable_by_flag_variable_file_and_alias(option):
    text, value = OVERRIDES.get(option.name) or SAMPLES[option.kind]
    literal = text if option.kind in ("switch", "number", "integer") else f'"{text}"'
    files = {"/kube": ""}
    results = [
        loaded(option.flag, text, files=files),
        loaded(f"{option.flag}={text}", files=files),
        loaded(files=files, **{option.variable: text}),
        loaded(toml=f"{option.name} = {literal}", files=files),
        *(loaded(files=files, **{alias: text}) for alias in option.alias if alias != "vip_arpRate"),
    ]
    for result in results:
        assert getattr(result.settings, option.field) == value
        assert type(getattr(result.settings, option.field)) is type(option.default)
        assert result.warnings == ()


def test_names_drop_the_unit():
    assert {option.name for option in OPTIONS} >= {"lease-duration", "frame-rate", "address-lifetime"}
    assert not [option.name for option in OPTIONS if option.name.endswith(("-s", "-pps"))]


def test_an_empty_variable_is_not_set():
    environ = {option.variable: "" for option in OPTIONS} | {foreign.name: "" for foreign in FOREIGN}
    environ |= {alias: "" for option in OPTIONS for alias in option.alias} | {"KVIP_CONFIG": ""}
    assert loaded(**environ) == loaded()


def test_an_empty_flag_is_set():
    assert loaded("--metrics-address", "").settings.metrics_address == ""
    assert loaded("--interface", "", KVIP_INTERFACE="eth7").settings.interface == ""
    assert refused("--lease-duration", "").path == "lease-duration"


def test_a_switch_flag_needs_no_value():
    assert loaded("--class-only", "--wait-for-interface=false", KVIP_WAIT_FOR_INTERFACE="1").settings.class_only is True
    assert loaded("--wait-for-interface=false", KVIP_WAIT_FOR_INTERFACE="1").settings.wait_for_interface is False


def test_config_flag_beats_its_variable():
    result = loaded("--config", "/b.toml", toml="interface = 'eth1'", files={"/b.toml": "interface = 'eth2'"})
    assert result.settings.interface == "eth2"


def test_loads_a_real_file(tmp_path):
    path = tmp_path / "kvip.toml"
    path.write_text("lease-duration = 6\n")
    assert load(["--config", str(path)], {}).settings.lease_duration_s == 6
    with pytest.raises(ConfigError, match="is not TOML"):
        load(["--config", "a\0b"], {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(["--config", str(tmp_path)], {})
    assert SystemFiles().exists(str(path))


def test_flags_have_help():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = parser.format_help()
    assert all(option.flag in text for option in OPTIONS)


# Values that stand for something else


def test_node_name_is_lower_cased_from_every_source():
    assert loaded().settings.node_name == "node-1.example"
    assert loaded(vip_nodename="N2").settings.node_name == "n2"


def test_bad_hostname_says_what_to_set():
    with pytest.raises(ConfigError, match=r"node-name: 'my_host'.*\(from the hostname; set node-name\)"):
        load([], {}, files=FakeFiles(), hostname="my_host")


def test_two_listeners_on_one_port_are_refused():
    assert refused(health_check_port="2112").path == "health-check-port"
    assert loaded(health_check_port="2112", prometheus_server="off").settings.health_check_port == 2112
    assert loaded(health_check_port="0").settings.health_check_port == 0
    assert "1024" in refused(health_check_port="80").problem


def test_metrics_off():
    assert loaded(KVIP_METRICS_ADDRESS="off").settings.metrics_address == ""


def test_zero_means_no_refresh_and_automatic_lifetime():
    assert loaded("--refresh-interval", "0").settings.refresh_interval_s == 0
    assert loaded("--address-lifetime", "0").settings.address_lifetime_s == 0


@pytest.mark.parametrize(("millis", "seconds"), [("500", 0.5), ("3000", 3.0), ("45000", 45.0)])
def test_arp_rate_is_in_milliseconds(millis, seconds):
    result = loaded(vip_arpRate=millis)
    assert (result.settings.refresh_interval_s, result.warnings) == (seconds, ())


@pytest.mark.parametrize("millis", ["0", "499"])
def test_arp_rate_below_500_means_3000_with_a_warning(millis):
    result = loaded(vip_arpRate=millis)
    assert result.settings.refresh_interval_s == 3
    assert result.warnings == (f"variable vip_arpRate: {millis} ms is below 500 ms, 3000 ms is used, as kube-vip does",)


@pytest.mark.parametrize("text", ["-1", "1.5", "3s"])
def test_bad_arp_rate_is_refused(text):
    error = refused(vip_arpRate=text)
    assert (error.path, error.source) == ("refresh-interval", "variable vip_arpRate")


@pytest.mark.parametrize(
    ("text", "level"), [("-4", "debug"), ("0", "info"), ("3", "info"), ("4", "warning"), ("8", "error"), ("debug", "debug")]
)
def test_kube_vip_log_levels_are_those_of_slog(text, level):
    assert loaded(vip_loglevel=text).settings.log_level == level


def test_slog_numbers_are_for_kube_vips_variable_only():
    assert refused(KVIP_LOG_LEVEL="-4").path == "log-level"


@pytest.mark.parametrize(
    ("environ", "files", "path"),
    [
        ({}, {}, ""),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {f"{ACCOUNT}/token": "t", "/etc/kubernetes/admin.conf": ""}, ""),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"/etc/kubernetes/admin.conf": ""}, "/etc/kubernetes/admin.conf"),
        ({"HOME": "/root"}, {"/etc/kubernetes/admin.conf": "", "/root/.kube/config": ""}, "/etc/kubernetes/admin.conf"),
        ({"HOME": "/root"}, {"/root/.kube/config": ""}, "/root/.kube/config"),
        ({"KUBECONFIG": "/a"}, {"/a": "", "/etc/kubernetes/admin.conf": ""}, "/a"),
        ({"KUBECONFIG": "/missing:/a"}, {"/a": ""}, "/missing:/a"),
        ({"KUBECONFIG": "/a", "k8s_config_file": "/b"}, {"/a": "", "/b": ""}, "/b"),
        ({"k8s_config_file": "/b", "KVIP_KUBECONFIG": "/c"}, {"/b": "", "/c": ""}, "/c"),
    ],
)
def test_which_kubeconfig(environ, files, path):
    assert loaded(files=files, **environ).settings.kubeconfig == path


def test_a_kubeconfig_that_was_asked_for_must_exist():
    error = refused(k8s_config_file="/b", files={"/etc/kubernetes/admin.conf": ""})
    assert str(error) == "kubeconfig: '/b' does not exist (from variable k8s_config_file)"


# Refusals of values

NUMBERS = [option for option in OPTIONS if option.kind in ("number", "integer")]
BAD_NUMBERS = ["x", "5s", "nan", "inf", "-inf", "1e999", "-1", "0x5", "1_0", " 5", "5 ", "٥", "9" * 5000, "1e30"]


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
@pytest.mark.parametrize("text", BAD_NUMBERS, ids=lambda text: text[:8])
def test_bad_number_is_refused_with_its_path_and_source(option, text):
    for error, source in [
        (refused(f"{option.flag}={text}"), f"flag {option.flag}"),
        (refused(**{option.variable: text}), f"variable {option.variable}"),
        *((refused(**{alias: text}), f"variable {alias}") for alias in option.alias),
    ]:
        assert (error.path, error.source) == (option.name, source)
        assert len(str(error)) < 300


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
@pytest.mark.parametrize("literal", ["nan", "inf", "-1", "true", '"5"', "[1]", "2026-01-01", "1" + "0" * 400], ids=lambda text: text[:8])
def test_bad_number_in_a_file_is_refused(option, literal):
    error = refused(toml=f"{option.name} = {literal}")
    assert (error.path, error.source) == (option.name, "file /kvip.toml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("address-lifetime", "9"),
        ("address-lifetime", "60.5"),
        ("refresh-interval", "0.4"),
        ("frame-rate", "0"),
        ("frame-burst", "63"),
        ("audit-interval", "0"),
        ("lease-duration", "0"),
        ("lease-duration", "3601"),
        ("retry-period", "0"),
        ("node-name", "a b"),
        ("node-name", "-a"),
        ("node-name", ".".join(["a" * 63] * 4)),
        ("namespace", "a.b"),
        ("namespace", "a" * 64),
        ("lease-name", "ns/name"),
        ("lease-name", "Upper"),
        ("interface", "abcdefghijklmnop"),
        ("interface", "eth0/1"),
        ("interface", "eth0:1"),
        ("interface", ".."),
        ("interface", "éééééééé"),
        ("interface", "auto"),
        ("metrics-address", "2112"),
        ("metrics-address", ":65536"),
        ("metrics-address", "::1:2112"),
        ("metrics-address", "[::g]:1"),
        ("metrics-address", "999.1.1.1:1"),
        ("metrics-address", "a_b:1"),
        ("state-dir", "run/kvip"),
        ("state-dir", "/run\n/x"),
        ("socket", "run/kvip.sock"),
        ("socket", "/run/" + "x" * 99),
        ("load-balancer-class", "a b"),
        ("load-balancer-class", "/x"),
        ("class-only", "yes"),
        ("log-format", "xml"),
        ("log-level", "trace"),
        ("loop", "trio"),
        ("election", "raft"),
        ("kubeconfig", "\udcff"),
    ],
)
def test_bad_value_is_refused_with_its_path_and_source(name, text):
    error = refused(f"--{name}={text}")
    assert (error.path, error.source) == (name, f"flag --{name}")
    assert "\n" not in str(error)


def test_wrong_types_in_a_file_are_refused():
    assert refused(toml="interface = 5").problem == "text is expected, got 5"
    assert refused(toml="class-only = 1").problem == "true or false is expected, got 1"
    assert refused(toml='class-only = "true"').problem == "a switch without quotes is expected, got 'true'"
    assert refused(toml="loop = true").problem == "text is expected, got True"
    assert refused(toml='lease-duration = "5"').problem == "a number without quotes is expected, got '5'"


@pytest.mark.parametrize("content", ["a = ", "a = 1\na = 2", b"\xff", "a = " + "[" * 20_000, "a = " + "1" * 5000, "#" * (1 << 21)])
def test_bad_file_is_refused(content):
    error = refused(toml=content)
    assert (error.path, error.source) == ("config", "variable KVIP_CONFIG")


def test_missing_file_is_refused():
    assert str(refused("--config", "/x")) == "config: cannot read '/x': No such file or directory (from flag --config)"


def test_unknown_key_in_a_file_is_refused_with_a_guess():
    error = refused(toml="lease-durations = 5")
    assert str(error) == "lease-durations: no such setting; did you mean lease-duration? (from file /kvip.toml)"


@pytest.mark.parametrize("argv", [["--lease-durations", "5"], ["--lease-duration"], ["stray"], ["--lease", "5"]])
def test_bad_command_line_is_a_config_error(argv):
    assert refused(*argv).path == "command line"


# Timers


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


# Election mode


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


# kube-vip's other variables


def provoking(foreign):
    return {"set": "something", "true": "true", "false": "false", "not /32,/128": "24", "not kubernetes": "etcd"}[foreign.when]


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


# Variables that nobody knows


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


# Helpers with a contract of their own


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (":2112", ("", 2112)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::]:9", ("::", 9)),
        ("localhost:0", ("localhost", 0)),
        ("a.b:65535", ("a.b", 65535)),
    ],
)
def test_parse_listen(text, parts):
    assert parse_listen(text) == parts


def test_parse_bool_knows_nothing_but_gos_words():
    assert [parse_bool(text) for text in ("1", "F", "", "TrUe", "on")] == [True, False, None, None, None]


# Whatever the environment

NAMES = sorted(
    {option.variable for option in OPTIONS}
    | {alias for option in OPTIONS for alias in option.alias}
    | {foreign.name for foreign in FOREIGN}
    | {"KVIP_CONFIG", "HOME", "KUBERNETES_SERVICE_HOST", "KVIP_TYPO"}
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=st.characters(codec=None, categories=("Cs", "Cc", "Lu", "Nd"))),
    st.sampled_from(
        ["true", "false", "1", "0", "5", "3", "1.5", "-4", "nan", "inf", "1e400", "9" * 5000, "global", "eth0", ":1", "/kvip.toml", "/a"]
    ),
    st.floats().map(str),
    st.integers().map(str),
)


@given(
    environ=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4), toml=st.one_of(st.binary(max_size=40), st.text().map(str.encode))
)
def test_any_environment_loads_or_is_a_config_error(environ, toml):
    files = FakeFiles(**{"/kvip.toml": toml, "/a": b"", f"{ACCOUNT}/namespace": b"\xff"})
    with contextlib.suppress(ConfigError):
        settings = load([], environ, files=files, hostname="n1").settings
        assert settings.lease_duration_s - settings.renew_deadline_s >= 1 - 1e-9
        assert settings.renew_deadline_s >= 2 * settings.retry_period_s - 1e-9
        assert settings.election in ("global", "claims")
        assert settings.address_lifetime_s == 0 or settings.address_lifetime_s >= 10


TOML_VALUES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.just('"5"'),
    st.just("{}"),
)


@given(table=st.dictionaries(st.sampled_from([option.name for option in OPTIONS]), TOML_VALUES, min_size=1, max_size=3))
def test_any_table_loads_or_is_a_config_error(table):
    toml = "\n".join(f"{name} = {value}" for name, value in table.items())
    with contextlib.suppress(ConfigError):
        settings = loaded(toml=toml).settings
        assert all(getattr(settings, option.field) is not None for option in OPTIONS)


ARGUMENTS = (
    st.sampled_from(
        [option.flag for option in OPTIONS] + [f"--{flag}" for flag in FLAGS] + ["--config", "--", "-n", "-", "--no-switch", "-h"]
    )
    | st.text(max_size=12)
    | VALUES
)


@settings(deadline=None)
@given(argv=st.lists(ARGUMENTS | st.builds("{}={}".format, st.sampled_from([option.flag for option in OPTIONS]), VALUES), max_size=6))
def test_any_command_line_loads_or_is_a_config_error(argv):
    with contextlib.suppress(ConfigError):
        settings = load(argv, {}, files=FakeFiles(**{"/kvip.toml": "", "/a": b""}), hostname="n1").settings
        assert settings.lease_duration_s - settings.renew_deadline_s >= 1 - 1e-9


@pytest.mark.parametrize(
    "toml", ["a = " + "[" * 100_000, "[" * 100_000, "a" + ".a" * 1_000 + " = 1", "x = " + "{a=" * 50_000, "lease-duration = " + "9" * 5000]
)
def test_a_file_without_end_is_a_config_error_of_bounded_length(toml):
    assert len(str(refused(toml=toml))) < 400


# kube-vip's command line


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


# The reference


def test_reference_names_every_setting_and_every_variable():
    text = reference_markdown()
    for option in OPTIONS:
        assert f"| `{option.flag}` | `{option.variable}` |" in text
        assert all(f"`{alias}`" in text for alias in option.alias)
    assert all(f"| `{foreign.name}` |" in text for foreign in FOREIGN)
    assert all(f"`--{flag}`" in text for flag in FLAGS)
    assert not BY_VARIABLE.keys() - {foreign.name for foreign in FOREIGN} - {alias for option in OPTIONS for alias in option.alias}


def test_reference_is_current():
    command = "python -c 'from kvip.reference import *; print(reference_markdown(), end=\"\")' > docs/configuration.md"
    assert REFERENCE.read_text() == reference_markdown(), f"out of date; run: {command}"


# Which Services, and what is written


@pytest.mark.parametrize("name", ["svc_namespace", "lb_class_legacy_handling", "disable_service_updates"])
def test_a_variable_that_was_taken_over_is_an_alias_and_nothing_else(name):
    assert [option.alias for option in OPTIONS if name in option.alias] == [(name,)]
    assert name not in {item.name for item in FOREIGN}


@pytest.mark.parametrize(
    ("environ", "only"),
    [
        ({}, False),
        ({"lb_class_only": "true"}, True),
        ({"lb_class_legacy_handling": "false"}, True),
        ({"lb_class_legacy_handling": "true"}, False),
        ({"lb_class_only": "false", "lb_class_legacy_handling": "false"}, True),
        ({"lb_class_only": "true", "lb_class_legacy_handling": "true"}, True),
    ],
)
def test_classes_are_filtered_as_kube_vip_filters_them(environ, only):
    """LbClassFilter and LbClassFilterLegacy of kube-vip's pkg/services."""
    assert rules_of(loaded(**environ).settings).class_only is only


def test_one_namespace_is_taken_over_from_kube_vip():
    settings = loaded(svc_namespace="shop").settings
    assert (settings.service_namespace, rules_of(settings).namespaces, settings.watched_namespace) == ("shop", ("shop",), "shop")
    assert "no DNS label" in refused(svc_namespace="Shop,other").problem


def test_several_namespaces_are_served_and_all_are_watched():
    settings = loaded("--service-namespace= shop, web ,shop").settings
    assert (rules_of(settings).namespaces, settings.watched_namespace) == (("shop", "web"), "")
    assert (rules_of(loaded().settings).namespaces, loaded().settings.watched_namespace) == ((), "")
    assert "'web_1' is no DNS label" in refused("--service-namespace=shop,web_1").problem
    assert loaded("--stray-action=remove", "--service-namespace=shop,web").settings.stray_action == "remove"


@pytest.mark.parametrize("setting", ["service-namespace", "allow-cidr"])
def test_a_list_of_nothing_does_not_come_to_mean_everything(setting):
    error = refused(f"--{setting}= , ,")
    assert (error.path, error.source) == (setting, f"flag --{setting}")
    assert "unset it" in error.problem


def test_allowed_networks_are_read():
    settings = loaded("--allow-cidr= 192.0.2.0/24,2001:db8::/64 ,198.51.100.7,").settings
    assert [str(network) for network in rules_of(settings).allowed] == ["192.0.2.0/24", "2001:db8::/64", "198.51.100.7/32"]
    assert rules_of(loaded().settings).allowed == ()


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("192.0.2.0/33", "such as"),
        ("192.0.2/24", "such as"),
        ("all", "such as"),
        ("192.0.2.0-192.0.2.9", "such as"),
        ("fe80::%eth0/64", "such as"),
        ("192.0.2.9/24", "an address inside 192.0.2.0/24; write that"),
    ],
)
def test_a_network_that_is_none_is_refused_with_the_way_out(text, way_out):
    error = refused(f"--allow-cidr=198.51.100.0/24,{text}")
    assert error.path == "allow-cidr"
    assert repr(text) in error.problem
    assert way_out in error.problem


def test_strays_are_not_removed_while_one_namespace_is_in_view():
    assert "stray-action=report" in refused("--stray-action=remove", svc_namespace="shop").problem
    assert loaded("--stray-action=remove").settings.stray_action == "remove"


def test_more_of_a_service_is_decoded_only_where_its_writers_matter():
    assert service_kind(loaded().settings) is Service
    assert service_kind(loaded("--addresses-from-status").settings) is ManagedService
