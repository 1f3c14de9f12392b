"""Settings handed to every daemon of a cluster as kube-vip takes them: by its variables, or by the flags of its command line.

In: a `Cluster` whose daemons run, kube-vip's variables with values. Out: the same daemons, started again with just those settings added,
and without them afterwards. A variable that is given as a flag is unset, since it would win. Must not: know what a setting does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kvip.kube_vip_flags import BY_VARIABLE
from lab.cluster import Cluster

VARIABLES, FLAGS = "variables", "flags"
WAYS = (VARIABLES, FLAGS)
_FLAGS = {"vip_interface": "--interface", "cp_namespace": "--namespace", **BY_VARIABLE}
"""Also those that are called in kvip as in kube-vip."""


def handed(way: str, **settings: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments and the variables of a daemon that is given these settings. Names in capitals are variables in either way."""
    flags = {} if way == VARIABLES else {name: value for name, value in settings.items() if not name.isupper()}
    return tuple(f"{_FLAGS[name]}={value}" for name, value in flags.items()), {**settings, **dict.fromkeys(flags, "")}


@contextmanager
def running(cluster: Cluster, way: str, /, *nodes: str, **settings: str) -> Iterator[None]:
    """The daemons of these nodes, or all, run with these settings."""
    arguments, env = handed(way, **settings)
    with ExitStack() as stack:
        for name in nodes or tuple(cluster.nodes):
            stack.enter_context(cluster.restarted(name, *arguments, **env))
        yield
