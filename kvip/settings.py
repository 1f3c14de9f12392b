"""The one schema of kvip's settings: names, types, bounds, defaults, help, units and kube-vip's names for them.

Inputs: none. Outputs: `Settings`, the values a daemon runs with; `kvip.options` reads the schema. Must not read the environment or files.

Over 300 lines: one table, which is read as one.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


def _meta(
    text: str,
    *,
    alias: tuple[str, ...] = (),
    unit: str = "",
    shown_default: str = "",
    zero: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
) -> msgspec.Meta:
    """Metadata of a setting. `zero` is what 0 means where 0 lies outside `at_least`..`at_most`."""
    extra = {"alias": alias, "unit": unit, "shown_default": shown_default, "zero": zero, "at_least": at_least, "at_most": at_most}
    return msgspec.Meta(description=text, extra=extra)


SOCKET_NAME = "kvip.sock"
"""In `state_dir`, where `socket` says nothing else."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon runs with. `kvip.config.load` fills it and checks it; the defaults here are the documented ones."""

    node_name: Annotated[
        str,
        _meta("Name of this node, as its Node object is called.", alias=("vip_nodename",), shown_default="the hostname, lower-cased"),
    ] = ""
    interface: Annotated[str, _meta("NIC to announce on.", alias=("vip_interface",), shown_default="the NIC of the default route")] = ""
    services_interface: Annotated[
        str,
        _meta(
            "NIC for the VIPs of Services, where it is another one; `auto`: for each VIP the one with a subnet that contains the address, "
            "and a node without one takes it not. A Service can say otherwise (`kube-vip.io/serviceInterface`, `kube-vip.io/serviceVLAN`). "
            "A port of a bridge or bond stands for its master.",
            alias=("vip_servicesinterface",),
            shown_default="`interface`",
        ),
    ] = ""
    wait_for_interface: Annotated[bool, _meta("Wait for a NIC that does not exist yet instead of refusing to start.")] = False
    namespace: Annotated[str, _meta("Namespace of the Leases; the same on all nodes.", alias=("cp_namespace",))] = "kube-system"
    kubeconfig: Annotated[
        str,
        _meta(
            "Path of the kubeconfig file.",
            alias=("k8s_config_file", "KUBECONFIG"),
            shown_default="in-cluster; else `/etc/kubernetes/admin.conf` or `~/.kube/config`, the first that exists",
        ),
    ] = ""
    election: Annotated[
        Literal["", "global", "claims", "per-service"],
        _meta(
            "Who decides which node holds a VIP; the same on all nodes. `claims`: each VIP has its own holder; one Lease per node and a "
            "few records. `global`: one Lease for all VIPs, shared with kube-vip. `per-service`: a Lease for each Service, with kube-vip's "
            "names; needs the right to read and write Leases in all namespaces, a node holds at most 128, and each costs a write per "
            "`retry-period`.",
            shown_default="`per-service` where kube-vip's `svc_election` is true, else `global` where one of its `vip_*` or `svc_*` "
            "variables is set, else `claims`",
        ),
    ] = ""
    members: Annotated[
        str,
        _meta(
            "Names of the nodes that may hold VIPs, comma-separated; empty = all. On the others the daemon only cleans up. In `claims` "
            "each member watches every member's heartbeat, so a large cluster is better off with a few."
        ),
    ] = ""
    rebalance: Annotated[
        bool,
        _meta(
            "With election `claims`: every 10 s the node that holds the most VIPs hands some of one record to the node that holds the "
            "fewest, until all hold about as many. Each VIP that moves is silent for a moment, so it is off: VIPs stay where they are."
        ),
    ] = False
    per_service_on_demand: Annotated[
        bool,
        _meta(
            'With election `global`: a Service with the annotation `kube-vip.io/forcePerServiceElection: "true"` has a Lease of its own.',
            alias=("per_service_election_on_demand",),
        ),
    ] = False
    lease_name: Annotated[str, _meta("Name of the Lease of election `global`; the same on all nodes.", alias=("svc_leasename",))] = (
        "plndr-svcs-lock"
    )
    lease_duration_s: Annotated[
        float,
        _meta(
            "How long after the holder's last sign of life another node may take over.",
            alias=("vip_leaseduration",),
            unit="seconds",
            at_least=1,
            at_most=3600,
        ),
    ] = 5.0
    renew_deadline_s: Annotated[
        float,
        _meta(
            "How long after the start of its last good renewal a holder goes silent. "
            "At least 1 s and a fifth of `lease-duration` shorter than `lease-duration`.",
            alias=("vip_renewdeadline",),
            unit="seconds",
            at_least=0.2,
            at_most=3600,
        ),
    ] = 3.0
    retry_period_s: Annotated[
        float,
        _meta(
            "Time between renewals; at most half of `renew-deadline`.",
            alias=("vip_retryperiod",),
            unit="seconds",
            at_least=0.1,
            at_most=1800,
        ),
    ] = 1.0
    metrics_address: Annotated[
        str,
        _meta("host:port of `/metrics`, `/healthz` and `/readyz`; `off` for none.", alias=("prometheus_server",)),
    ] = ":2112"
    page: Annotated[
        Literal["loopback", "all", "off"],
        _meta(
            "Who gets the page with the VIPs, and its JSON (`/`, `/status.json` of `metrics-address`): `loopback`, who asks over the "
            "node's loopback, as `kubectl port-forward` does; `all`, whoever reaches `metrics-address`; `off`, nobody."
        ),
    ] = "loopback"
    vip_metrics: Annotated[
        bool,
        _meta("A series in `/metrics` (`kvip_vip_announced`) for each VIP bound here and Service that asks for it."),
    ] = False
    health_check_port: Annotated[
        int,
        _meta(
            "Port of a second listener, on every address, that serves `/healthz` alone.",
            alias=("health_check_port",),
            zero="none",
            at_least=1024,
            at_most=65_535,
        ),
    ] = 0
    state_dir: Annotated[str, _meta("Directory of the journal; must outlive the pod, not the boot.")] = "/run/kvip"
    socket: Annotated[
        str,
        _meta(
            "Path of the unix socket (mode 0600) where `kvip status` and `kvip explain` read what this daemon knows and does, and "
            "`kvip announce` asks for a burst; `off` for none.",
            shown_default="`kvip.sock` in `state-dir`",
        ),
    ] = ""
    refresh_interval_s: Annotated[
        float,
        _meta(
            "Time between repeated announcements of a VIP that did not move.",
            alias=("vip_arpRate",),
            unit="seconds",
            zero="no repetition",
            at_least=0.5,
            at_most=86_400,
        ),
    ] = 60.0
    frame_rate_pps: Annotated[
        float, _meta("Most announcement frames per second and NIC.", unit="frames/s", at_least=1, at_most=10_000_000)
    ] = 10_000.0
    frame_burst: Annotated[
        int, _meta("Frames that may leave at once after a pause; no less than one batch.", unit="frames", at_least=64, at_most=1_000_000)
    ] = 2048
    switch: Annotated[
        bool,
        _meta(
            "The dead-man's switch: rules in nf_tables that silence every VIP of this node when the daemon does not renew in time. "
            "`false` (or `--no-switch`): a daemon that is killed or frozen goes on answering for its VIPs beside the next holder.",
        ),
    ] = True
    service_security: Annotated[
        bool,
        _meta(
            "Let only the Services' ports through to their VIPs from outside (nf_tables), beside ICMP echo and errors and neighbour "
            "discovery; pods of the holder and the holder itself reach every port. A VIP is not held on a node where its rules cannot be "
            'applied. One Service with the annotation `kube-vip.io/ignore-service-security: "true"` opens every port of an address for '
            "all Services that share it.",
            alias=("enable_service_security",),
        ),
    ] = False
    address_lifetime_s: Annotated[
        int,
        _meta(
            "Lifetime the kernel is given with each VIP: the address goes away by itself where no kvip refreshes it.",
            unit="seconds",
            zero="automatic, 60 s up to 1,000 VIPs, growing with their number to 600 s at 10,000",
            at_least=10,
            at_most=86_400,
        ),
    ] = 0
    probe: Annotated[
        bool,
        _meta(
            "Ask the segment for an address (RFC 5227, 3 x 50 ms) before it is bound for the first time, and before it goes to "
            "another NIC; bind nothing that another host answers for. Never at a take-over from a kvip that had it bound "
            "and was seen alive."
        ),
    ] = True
    ipv6_dad: Annotated[
        bool,
        _meta(
            "Let the kernel look for duplicates of an IPv6 VIP too (RFC 4862) when it is bound for the first time: about a second passes "
            "before it is usable and announced. kvip's own `probe` has asked by then. Never at a take-over."
        ),
    ] = False
    stray_ranges: Annotated[
        str,
        _meta("Networks (CIDRs, comma-separated) whose addresses are VIPs: one found on the NIC without a Service is reported as a stray."),
    ] = ""
    stray_action: Annotated[
        Literal["report", "remove"],
        _meta(
            "What is done about a stray: an address on the VIPs' NIC that kvip did not add and that belongs to a LoadBalancer Service, "
            "or to `stray-ranges`, without anybody who answers for it."
        ),
    ] = "report"
    audit_interval_s: Annotated[
        float,
        _meta("Time between audits of the kernel's addresses.", unit="seconds", at_least=1, at_most=3600),
    ] = 60.0
    load_balancer_class: Annotated[str, _meta("The `loadBalancerClass` of the Services that are ours.", alias=("lb_class_name",))] = (
        "kube-vip.io/kube-vip-class"
    )
    class_only: Annotated[bool, _meta("Leave Services without a `loadBalancerClass` alone.", alias=("lb_class_only",))] = False
    class_legacy_handling: Annotated[
        bool,
        _meta(
            "Serve Services without a `loadBalancerClass` too, unless `class-only` says otherwise; `false` is the same as `class-only`.",
            alias=("lb_class_legacy_handling",),
        ),
    ] = True
    service_namespace: Annotated[
        str,
        _meta(
            "Serve the Services of these namespaces only (comma-separated); the same on all nodes. With one, no other is watched; with "
            "several all are: kvip then needs to read Services and EndpointSlices everywhere, and to write in those only.",
            alias=("svc_namespace",),
            shown_default="all namespaces",
        ),
    ] = ""
    allow_cidr: Annotated[
        str,
        _meta(
            "Networks (CIDRs, comma-separated, both families) that VIPs are taken from; the same on all nodes. An address outside is not "
            "held, and its Service is told so by a Warning Event. Unset, whoever may edit a Service may take any address of the network "
            "that no Node, gateway or API server has."
        ),
    ] = ""
    addresses_from_status: Annotated[
        bool,
        _meta(
            "Take addresses that another controller (an IPAM) wrote to `status.loadBalancer.ingress`, where neither annotation nor "
            "`spec.loadBalancerIP` names any. Never those of a status that kvip or kube-vip wrote last (`managedFields`)."
        ),
    ] = False
    require_endpoints: Annotated[
        bool,
        _meta(
            "Hold no VIP of a Service without endpoints, as kube-vip does, with externalTrafficPolicy Cluster too. The annotation "
            "`kube-vip.io/allow-reconcile-without-endpoints` excepts a Service."
        ),
    ] = False
    exclude_label: Annotated[
        bool,
        _meta(
            "Hold no VIPs where the Node has the label `node.kubernetes.io/exclude-from-external-load-balancers` (kubeadm gives it to "
            "control-plane nodes)."
        ),
    ] = True
    cordon_hands_over: Annotated[bool, _meta("Hold no VIPs where the Node is cordoned (unschedulable).")] = False
    disable_service_updates: Annotated[
        bool,
        _meta("Write neither status nor annotations of Services; Events are posted all the same.", alias=("disable_service_updates",)),
    ] = False
    vip_host_annotation: Annotated[
        bool,
        _meta(
            "Write the annotation `kube-vip.io/vipHost`, the node that holds a Service's first VIP, as kube-vip does. Needs the right to "
            "patch Services."
        ),
    ] = False
    log_format: Annotated[Literal["json", "logfmt"], _meta("Form of the log lines on stderr.")] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _meta("Least severe log lines that are written.", alias=("vip_loglevel",))
    ] = "info"
    loop: Annotated[Literal["uvloop", "asyncio"], _meta("Event loop.")] = "uvloop"

    @property
    def served_namespaces(self) -> tuple[str, ...]:
        """The namespaces whose Services are served; empty = all."""
        return split_list(self.service_namespace)

    @property
    def watched_namespace(self) -> str:
        """The one namespace whose Services are watched; "" = all are. The API watches one namespace or all of them."""
        return self.served_namespaces[0] if len(self.served_namespaces) == 1 else ""


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated text, each once, without blanks and empty ones."""
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
