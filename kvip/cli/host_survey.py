"""Gathers what doctor wants to know of this host, from the kernel, /proc, /run and /etc; and joins it with the cluster's facts.

Input: settings, the host's root. Output: `Facts`. It reads only: no address, rule, file or object is changed.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvip.cli.known_vips import from_journal
from kvip.clock import SystemClock
from kvip.core.doctor import announcers, managers
from kvip.core.doctor.facts import ClusterFacts, Facts, ForeignRules, HostFacts, Unseen
from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.strays import Owner
from kvip.core.sweeping import Host
from kvip.daemon.supervision import LOCK_NAME
from kvip.daemon.terms import rules_of
from kvip.errors import ConfigError, KvipError
from kvip.kernel import foreign_rules, host, programs, wall_clock
from kvip.kernel import managers as manager_files
from kvip.kernel.batches import AddressSocket
from kvip.kernel.switch import Switch
from kvip.kube import proxy
from kvip.settings import Settings

KNOWN_PROGRAMS = announcers.RUNNING | {managers.NETWORKD, managers.NETWORK_MANAGER, "kube-proxy", "calico-node", "flanneld", "cilium-agent"}
UNIX_SOCKETS = Path("/proc/thread-self/net/unix")
"""Of this thread: /proc/net shows the network namespace of the first one (proc(5))."""

T = TypeVar("T")


class HostSurvey:
    """One look at this host. `unseen` grows with what could not be seen."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings = settings
        self._root = root
        self.unseen: list[Unseen] = []

    def run(self) -> HostFacts:
        """Look at everything; what cannot be seen is None or empty in the facts, and noted."""
        net = self._look("addresses and NICs", self._net) or Host(addresses=())
        links = tuple(net.links.values())
        return HostFacts(
            release=os.uname().release,
            net=net,
            sysctls=host.sysctls([link.name for link in links]),
            switch_problem=self._look("nf_tables", self._switch_problem),
            daemon_runs=self._look("a running kvip", daemon_runs),
            programs=self._look("programs of this machine", lambda: programs.running(KNOWN_PROGRAMS, self._root)),
            proxy_mode=self._look("kube-proxy's mode", proxy.mode),
            networkd=manager_files.networkd(links, self._root),
            network_manager=manager_files.network_manager(links, self._root),
            clock_synchronised=self._look("the clock's state", wall_clock.synchronised),
            foreign_rules=self._foreign_rules(),
            former=self._look("the journal of a former daemon", self._former) or {},
        )

    def _look(self, what: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except ConfigError as error:
            self.unseen.append(Unseen(what=what, why=error.problem))
        except (KvipError, OSError) as error:
            self.unseen.append(Unseen(what=what, why=(error.strerror if isinstance(error, OSError) else None) or str(error)))
        return None

    def _net(self) -> Host:
        with AddressSocket() as addresses:
            return asyncio.run(host.read_host(addresses))

    def _switch_problem(self) -> str:
        if os.geteuid() != 0:
            raise PermissionError(1, "needs root (CAP_NET_ADMIN)")
        try:
            Switch.require()
        except KvipError as error:
            return str(error)
        return ""

    def _foreign_rules(self) -> tuple[ForeignRules, ...] | None:
        found, problems = foreign_rules.find_all()
        self.unseen += [Unseen(what="firewall rules of kube-vip", why=str(problem)) for problem in problems]
        if problems and not found:
            return None
        return tuple(ForeignRules(word=word, count=count) for word, count in sorted(Counter(item.word for item in found).items()))

    def _former(self) -> dict[Vip, Owner]:
        journal = from_journal(self._settings.state_dir)
        return {vip: Owner(service=ServiceKey(services[0]), uid=Uid("")) for vip, services in journal.items() if services}


def daemon_runs() -> bool:
    """Does a process of this network namespace hold the daemons' lock? Raises OSError.

    /proc/net/unix shows an abstract name with "@" for its leading NUL (unix(7)).
    """
    name = LOCK_NAME.replace("\0", "@")
    return any(line.split()[-1] == name for line in UNIX_SOCKETS.read_text(encoding="utf-8", errors="replace").splitlines()[1:])


async def ask_cluster(settings: Settings) -> tuple[ClusterFacts | None, list[Unseen]]:
    """What the API server says; None when there is none that answers."""
    # The Kubernetes client takes longer to import than a look at the host.
    from kvip.kube.api import Api
    from kvip.kube.auth import connect
    from kvip.kube.survey import Survey

    try:
        connection = await connect(kubeconfig=settings.kubeconfig or None)
    except ConfigError as error:
        return None, [Unseen(what="the cluster", why=str(error))]
    async with connection:
        survey = Survey(Api(connection), settings, server=connection.host, rules=rules_of(settings), clock=SystemClock())
        return await survey.run(), survey.unseen


def gather(settings: Settings, *, root: Path) -> Facts:
    """Everything that can be seen from here. `root`: "/", or where the host's root is mounted."""
    survey = HostSurvey(settings, root)
    on_host = survey.run()
    cluster, unseen = asyncio.run(ask_cluster(settings))
    return Facts(settings=settings, host=on_host, cluster=cluster, looked_at=SystemClock().wall(), unseen=(*survey.unseen, *unseen))
