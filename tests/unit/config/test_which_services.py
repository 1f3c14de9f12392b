"""Settings that say which Services are served, and what is written."""

import pytest

from kvip.aliases import FOREIGN
from kvip.core.objects import ManagedService, Service
from kvip.daemon.terms import rules_of, service_kind
from kvip.options import OPTIONS
from tests.unit.config.loading import loaded, refused


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
