"""`kvip manifest`: prints what runs kvip in a cluster, or the rights it needs there, as YAML.

Input: what to print, and the settings as flags. Output: YAML on stdout; exit code 2 = a setting cannot be used. It asks no API server.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import yaml

from kvip import __version__, config
from kvip.cli.workload import STATIC_KUBECONFIG, Json, daemonset, static_pod
from kvip.core.rights import NAME, rbac_objects
from kvip.errors import ConfigError
from kvip.options import OPTIONS
from kvip.settings import Settings

KINDS = ("daemonset", "static-pod", "rbac")


class _NodesFiles:
    """The files of the nodes, which are not these: what is named there is taken to exist."""

    def read(self, path: str) -> bytes:
        raise FileNotFoundError(2, "not read", path)

    def exists(self, path: str) -> bool:
        return True


def main(argv: Sequence[str]) -> int:
    """Print the manifest; returns the exit code (argparse exits by itself with 2 for an unknown flag)."""
    parser = argparse.ArgumentParser(
        prog="kvip manifest",
        usage="kvip manifest {daemonset,static-pod,rbac} [-h] [--image IMAGE] [SETTING ...]",
        allow_abbrev=False,
        description="Print what runs kvip in a cluster, as YAML for kubectl apply. Settings given as flags become its environment.",
        epilog="Example: kvip manifest rbac --election global | kubectl apply -f - and then kvip manifest daemonset --election global "
        "--image registry.example/kvip:0.1.0 | kubectl apply -f -. Exit code 2: a setting cannot be used.",
    )
    what = "daemonset: a daemon on every node; static-pod: a file for a kubelet's manifest folder; rbac: the service account and its rights"
    parser.add_argument("kind", choices=KINDS, help=f"{what}. Give rbac the same settings: the rights follow from them")
    parser.add_argument("--image", default=f"kvip:{__version__}", help="image of the container (default: %(default)s)")
    config.add_arguments(parser, file=False)
    given = vars(parser.parse_args(list(argv)))
    kind, image = given.pop("kind"), given.pop("image")
    try:
        objects = _objects(kind, given, image=image)
    except ConfigError as error:
        print(f"kvip: {error}", file=sys.stderr)
        return 2
    print(yaml.safe_dump_all(objects, sort_keys=False, width=120), end="")
    return 0


def _objects(kind: str, flags: Mapping[str, str], *, image: str) -> list[Json]:
    given = {option: flags[option.field] for option in OPTIONS if option.field in flags}
    argv = [f"{option.flag}={text}" for option, text in given.items()]
    settings = config.load(argv, {}, files=_NodesFiles(), hostname="node").settings
    variables = {option.variable: text for option, text in given.items()}
    kubeconfig = settings.kubeconfig if "kubeconfig" in flags else ""
    if kind == "rbac":
        return _rbac(settings)
    if kind == "daemonset":
        if "node_name" in flags:
            raise ConfigError("node-name", "all nodes would have one name; leave it to the manifest", source="flag --node-name")
        return [daemonset(settings, variables, image=image, kubeconfig=kubeconfig)]
    kubeconfig = kubeconfig or STATIC_KUBECONFIG
    return [static_pod(settings, {**variables, "KVIP_KUBECONFIG": kubeconfig}, image=image, kubeconfig=kubeconfig)]


def _rbac(settings: Settings) -> list[Json]:
    account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": settings.namespace}}
    subject: Json = {"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}
    return [account, *rbac_objects(settings, subject)]
