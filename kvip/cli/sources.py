"""Where `kvip status` and `kvip explain` get what they show: from the daemon on this host, or from the API server for the whole cluster.

Input: arguments. Output: documents of `kvip.observe`. Only `fail` prints.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime

from kvip.cli import daemon_view, served
from kvip.core.model import ServiceKey
from kvip.errors import ConfigError, KvipError
from kvip.observe.cluster import Cluster, ClusterView, Terms
from kvip.observe.explaining import Explanation, explain
from kvip.observe.state import Instants, StateView
from kvip.options import OPTIONS

_DEFAULTS = {option.field: str(option.default) for option in OPTIONS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say where to look."""
    parser.add_argument("--socket", metavar="PATH", help=f"the daemon's socket (default: {daemon_view.default_socket()})")
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="ask the API server for the whole cluster instead of the daemon on this host; without it that is done where there is no "
        "such socket and KUBECONFIG or ~/.kube/config names a cluster",
    )
    for flag, field, metavar in (
        ("--namespace", "namespace", "NAME"),
        ("--lease-name", "lease_name", "NAME"),
    ):
        text = f"for the whole cluster: the daemons' setting (default: {_DEFAULTS[field] or 'all'})"
        parser.add_argument(flag, metavar=metavar, default=_DEFAULTS[field], help=text)
    served.add_arguments(parser, when="for the whole cluster")


def state(options: argparse.Namespace) -> StateView | ClusterView:
    """The view to show. Raises KvipError where there is none."""
    kubeconfig = kubeconfig_for(options)
    return _cluster(options, kubeconfig).view() if kubeconfig else daemon_view.state(socket_of(options))


def explanation(options: argparse.Namespace, service: ServiceKey) -> Explanation:
    """Why a Service has its VIPs, or has not. Raises KvipError where nobody can tell."""
    kubeconfig = kubeconfig_for(options)
    if not kubeconfig:
        return daemon_view.explanation(socket_of(options), service)
    wall = datetime.now(UTC)
    return explain(_cluster(options, kubeconfig).case(service), Instants(now=0.0, wall=wall))


def socket_of(options: argparse.Namespace) -> str:
    """The daemon's socket."""
    return options.socket or daemon_view.default_socket()


def kubeconfig_for(options: argparse.Namespace) -> str:
    """The kubeconfig to use; "" = ask the daemon."""
    if options.kubeconfig and options.socket:
        raise ConfigError("kubeconfig", "--kubeconfig asks the API server, --socket the daemon; give one of them")
    if options.kubeconfig or options.socket or os.path.exists(daemon_view.default_socket()):
        return options.kubeconfig or ""
    found = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    return found if any(os.path.exists(part) for part in found.split(":") if part) else ""


def _cluster(options: argparse.Namespace, kubeconfig: str) -> Cluster:
    # The Kubernetes client takes longer to import than a daemon to answer.
    from kvip.cli.cluster_objects import read_objects

    objects = asyncio.run(read_objects(kubeconfig, namespace=options.namespace))
    return Cluster(
        objects, Terms(rules=served.rules_of(options), namespace=options.namespace, lease_name=options.lease_name), wall=datetime.now(UTC)
    )


def fail(error: KvipError) -> int:
    """Say what went wrong; the exit code for it."""
    print(f"kvip: {error}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1
