"""The flags that say which Services are kvip's, for commands beside no daemon."""

import argparse

import pytest

from kvip.cli import served
from kvip.core.addresses import parse_networks
from kvip.core.desired import Rules
from kvip.errors import ConfigError


def rules(*argv):
    parser = argparse.ArgumentParser()
    served.add_arguments(parser, when="here")
    return served.rules_of(parser.parse_args(list(argv)))


def test_without_flags_they_are_the_daemons_defaults():
    assert rules() == Rules(load_balancer_class="kube-vip.io/kube-vip-class")


def test_each_flag_is_followed():
    flags = ("--load-balancer-class=a/b", "--class-only", "--service-namespace=shop,web", "--allow-cidr=192.0.2.0/24")
    assert rules(*flags) == Rules(
        load_balancer_class="a/b", class_only=True, namespaces=("shop", "web"), allowed=parse_networks(["192.0.2.0/24"])
    )


@pytest.mark.parametrize("flag", ["--load-balancer-class=a b", "--service-namespace=Shop", "--allow-cidr=all", "--allow-cidr=,"])
def test_what_a_daemon_would_refuse_is_refused_by_name(flag):
    with pytest.raises(ConfigError, match=flag.partition("=")[0].removeprefix("--")):
        rules(flag)
