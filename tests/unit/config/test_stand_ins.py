"""Values that stand for something else: other units, names, levels, and places to look."""

import pytest

from kvip.config import load
from kvip.errors import ConfigError
from tests.unit.config.loading import ACCOUNT, FakeFiles, loaded, refused


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
