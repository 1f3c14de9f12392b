"""What kvip does with those of kube-vip's variables and flags that are no setting of kvip's under another name, and with unknown ones.

Inputs: the environment. Outputs: warnings, or a `ConfigError` where going on would change who holds a VIP, or where.
Must not print a variable's value unless it is a switch: some of them are passwords.
Names and meanings: kube-vip's pkg/kubevip/config_envvar.go and config_environment.go.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from kvip.errors import ConfigError
from kvip.options import OPTIONS

Treatment = Literal["none", "followed", "warned", "refused"]
When = Literal["set", "true", "false", "not /32,/128", "not kubernetes"]


class Foreign(msgspec.Struct, frozen=True, kw_only=True):
    """A variable of kube-vip's: what kvip does when `when` holds; otherwise the variable is accepted and has no effect."""

    name: str
    """The variable; a flag, with its dashes, where kube-vip has no variable for it."""
    treatment: Treatment
    when: When
    note: str

    @property
    def is_variable(self) -> bool:
        """False for a flag without a variable."""
        return not self.name.startswith("--")


def parse_bool(text: str) -> bool | None:
    """A switch as Go's strconv.ParseBool reads it, which kube-vip uses; None when it is none."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    return None


def _table(treatment: Treatment, when: When, rows: dict[str, str]) -> tuple[Foreign, ...]:
    return tuple(Foreign(name=name, treatment=treatment, when=when, note=note) for names, note in rows.items() for name in names.split())


_BGP = (
    "bgp_attach_ip_to_interface bgp_routerid bgp_routerinterface bgp_as bgp_peeraddress bgp_peers bgp_peeras bgp_peerpass bgp_multihop "
    "bgp_sourceif bgp_sourceip bgp_hold_time bgp_keepalive_interval mpbgp_nexthop mpbgp_ipv4 mpbgp_ipv6 zebra_enable zebra_url "
    "zebra_version zebra_software_name annotation"
)
_ROUTES = "vip_routingtableid vip_routingtabletype vip_routingprotocol vip_cleanroutingtable"
_CONTROL_PLANE_HEALTH = (
    "control_plane_health_check_address control_plane_health_check_period_seconds control_plane_health_check_timeout_seconds "
    "control_plane_health_check_failure_threshold control_plane_health_check_ca_path"
)

FOREIGN: tuple[Foreign, ...] = (
    *_table(
        "refused",
        "true",
        {
            "cp_enable": "kvip does not hold the control plane's VIP; leave it to a kube-vip without svc_enable, and set cp_enable=false",
            "bgp_enable": "kvip announces by ARP and NDP only; set bgp_enable=false",
            "vip_routingtable": "kvip announces by ARP and NDP only; set vip_routingtable=false",
            "vip_wireguard": "kvip announces by ARP and NDP only; set vip_wireguard=false",
            "enable_upnp": "kvip opens no ports on a gateway; set enable_upnp=false",
            "lb_enable": "kvip does not balance the control plane (IPVS); set lb_enable=false",
            "vip_preserve_on_leadership_loss": "a VIP that stays on a node without its Lease is answered for by two nodes; set it to false",
            "egress_enableinternalsnat egress_clean EGRESS_CLEAN": "egress through a VIP is not available; set it to false",
            "vip_ddns": "kvip takes addresses, not names that DHCP registers; set vip_ddns=false",
        },
    ),
    *_table(
        "refused",
        "false",
        {
            "svc_enable": "VIPs of Services are all that kvip holds; unset it, or do not run kvip here",
            "vip_arp": "kvip announces by ARP and NDP only; unset it, or do not run kvip here",
        },
    ),
    *_table(
        "refused",
        "set",
        {
            "egress_podcidr egress_servicecidr": "egress through a VIP is not available; unset it",
            "config_file": "kvip does not read kube-vip's configuration file, which may say who holds a VIP; move its settings to "
            "kvip's own file (`KVIP_CONFIG`) and unset it",
        },
    ),
    *_table(
        "refused",
        "not kubernetes",
        {"--leaderElectionType": "kvip elects by Leases of the Kubernetes API; set it to kubernetes"},
    ),
    *_table(
        "warned",
        "not /32,/128",
        {"vip_subnet vip_cidr": "kvip binds VIPs as /32 and /128, always"},
    ),
    *_table(
        "warned",
        "true",
        {
            "vip_allow_interface_not_up": "kvip has `wait-for-interface` for a NIC that is not there yet",
            "enable_node_labeling": "kvip writes no labels to Nodes",
        },
    ),
    *_table(
        "warned",
        "set",
        {
            "mirror_dest_interface": "kvip does not mirror traffic",
            "address vip_address": "kvip does not hold the control plane's VIP",
            "kubernetes_addr": "the API server's address comes from the kubeconfig or the cluster",
        },
    ),
    *_table(
        "followed",
        "true",
        {
            "svc_election": "chooses `election=per-service`, unless `election` is set",
            "vip_loseleadership": "kvip always hands its VIPs over when their NIC is without carrier for 0.5 s",
        },
    ),
    *_table(
        "none",
        "set",
        {
            "vip_leaderelection": "VIPs of Services are always elected for",
            "vip_leasename": "names the control plane's Lease; `lease-name` is the one of Services",
            "vip_leaseannotations": "concerns the control plane's Lease",
            "port cp_detect vip_singlenode vip_startleader": "concerns the control plane",
            "lb_port lb_fwdmethod backend_health_check_interval": "concerns lb_enable",
            _CONTROL_PLANE_HEALTH: "concerns the control plane",
            _BGP: "concerns BGP",
            _ROUTES: "concerns the routing-table mode",
            "egress_withnftables": "chooses how egress is done; egress through a VIP is not available",
            "dns_mode dhcp_mode dhcp_backoff_attempts": "a VIP that is a name or asks for DHCP is refused with an Event on its Service",
            "vip_loseleadership_timeout_seconds": "it is 0.5 s, see vip_loseleadership",
            "vip_skipdad": "kvip's election replaces duplicate address detection; it never waits for it",
            "vip_interfaceloglobal": "kvip's addresses have global scope",
            "enable_endpoints": "kvip reads EndpointSlices",
            "instance_name": "names kube-vip's own firewall tables",
            "--etcdCACert --etcdCert --etcdKey --etcdEndpoints": "concerns --leaderElectionType=etcd",
            "--debounceTime": "kvip acts on the latest state, however often a Service changes",
            "iptables_backend debounce_time vip_configmap": "kube-vip does not use it either",
        },
    ),
)
"""Every variable of kube-vip's that is no alias of a setting."""

_OWN_VARIABLES = frozenset({"KVIP_CONFIG", "KVIP_NO_EXTENSIONS", *(option.variable for option in OPTIONS)})
# kubelet describes each Service of the pod's namespace in variables (envVars.go): a Service named "kvip" gives these.
_SERVICE_LINK = re.compile(r"KVIP_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
_ALIASES = frozenset(alias for option in OPTIONS for alias in option.alias)
_FOREIGN = frozenset(foreign.name for foreign in FOREIGN)
_HOST_PREFIXES = frozenset({"32", "/32", "128", "/128"})


def _holds(foreign: Foreign, text: str, *, source: str) -> bool:
    if foreign.when == "set":
        return True
    if foreign.when == "not kubernetes":
        return text != "kubernetes"
    if foreign.when == "not /32,/128":
        return not _HOST_PREFIXES.issuperset(text.split(","))
    switch = parse_bool(text)
    if switch is None:
        problem = f"true or false is expected, got {text[:60]!r}"
        raise ConfigError(foreign.name, problem, source=source)
    return switch == (foreign.when == "true")


def judge(environ: Mapping[str, str], flags: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings about kube-vip's variables and flags that kvip does not follow. `flags`: variable -> the flag it was given by instead.

    Raises ConfigError for one that would change who holds a VIP or where, and for a switch that is none.
    An empty value counts as not set, as it does for kube-vip.
    """
    warnings: list[str] = []
    for foreign in FOREIGN:
        text = environ.get(foreign.name, "")
        source = source_of(foreign.name, flags)
        if not text or foreign.treatment == "none" or not _holds(foreign, text, source=source) or foreign.treatment == "followed":
            continue
        if foreign.treatment == "refused":
            raise ConfigError(foreign.name, foreign.note, source=source)
        warnings.append(f"{source} is ignored: {foreign.note}")
    return tuple(warnings)


def source_of(variable: str, flags: Mapping[str, str]) -> str:
    """Where the value of one of kube-vip's variables came from. `flags`: as for `judge`."""
    return f"flag {flags[variable]}" if variable in flags else f"variable {variable}"


def guess(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known."""
    near = difflib.get_close_matches(name[:60], list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings about variables that look like kvip's or kube-vip's and are neither: most likely misspelt."""
    warnings = []
    for name in sorted(environ):
        if name.startswith("KVIP_") and name not in _OWN_VARIABLES:
            if not name.startswith("KVIP_LAB_") and not _SERVICE_LINK.fullmatch(name):
                warnings.append(f"variable {name[:60]} is no setting{guess(name, _OWN_VARIABLES)}")
        elif name.startswith(("vip_", "svc_")) and name not in _ALIASES | _FOREIGN:
            warnings.append(f"variable {name[:60]} is not known and ignored{guess(name, _ALIASES | _FOREIGN)}")
    return tuple(warnings)
