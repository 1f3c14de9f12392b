"""Every metric of kvip, in one place, on one registry of its own.

Names follow the Prometheus conventions; labels are bounded: no label per VIP or Service, but in `vip_series`, which is empty unless
`vip-metrics` asks for it. docs/metrics.md is generated from here.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

registry = CollectorRegistry()
VIP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Seconds: from what a take or a let-go should last, to five times the second within which a VIP must go (I2)."""


class VipSeries(Collector):
    """A series per VIP bound here and Service that asks for it. `rows` is replaced as a whole: a scrape in a thread sees one state."""

    name = "kvip_vip_announced"
    help = "1 while the VIP is announced from here, 0 while it is bound and silent; only with vip-metrics"
    labels = ("vip", "namespace", "service")

    def __init__(self) -> None:
        self.rows: tuple[tuple[tuple[str, str, str], bool], ...] = ()
        """Label values, and whether it is announced."""

    def collect(self) -> Iterator[Metric]:
        """One family, with a sample per row."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, announced in self.rows:
            family.add_metric(values, announced)
        yield family


vip_series = VipSeries()
registry.register(vip_series)

build_info = Gauge("kvip_build_info", "Version and frame implementation; always 1", ["version", "frames"], registry=registry)
vips = Gauge(
    "kvip_vips",
    "VIPs by state on this node: claimed (some Service asks for it), bound (in the kernel, marked), announced",
    ["state"],
    registry=registry,
)
actions_total = Counter(
    "kvip_actions_total",
    "Changes of kernel addresses, by kind (take, adopt, refresh, let_go) and result (done, failed)",
    ["action", "result"],
    registry=registry,
)
take_seconds = Histogram(
    "kvip_take_seconds",
    "Seconds from the change that asked for a VIP to its first frame",
    buckets=VIP_BUCKETS,
    registry=registry,
)
let_go_seconds = Histogram(
    "kvip_let_go_seconds",
    "Seconds from the change that ended a VIP here to the kernel's word that it is gone; fences are not among them",
    buckets=VIP_BUCKETS,
    registry=registry,
)
frames_total = Counter(
    "kvip_frames_sent_total",
    "Announcement frames that left, by family (ipv4, ipv6) and priority (take_over, repeat, refresh)",
    ["family", "priority"],
    registry=registry,
)
frame_delay_seconds = Histogram(
    "kvip_frame_delay_seconds",
    "Seconds that the longest waiting announcement of each batch was due before it left",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    registry=registry,
)
frame_errors_total = Counter(
    "kvip_frame_errors_total", "Announcement batches that the NIC refused, and packet sockets that could not be opened", registry=registry
)
frames_waiting = Gauge("kvip_announcements_waiting", "Announcement rounds that are due and wait for the pacer", registry=registry)
lease_holding = Gauge("kvip_lease_holding", "1 while this node may hold VIPs", registry=registry)
lease_valid_seconds = Gauge("kvip_lease_valid_seconds", "Seconds for which this node may still act, 0 = none", registry=registry)
lease_age_seconds = Gauge(
    "kvip_lease_age_seconds",
    "Seconds since a renewal of a lease of this node last counted, -1 = none did since the start",
    registry=registry,
)
lease_renewals_total = Counter("kvip_lease_renewals_total", "Renewals that counted: the switch was armed anew", registry=registry)
lease_renewal_failures_total = Counter("kvip_lease_renewal_failures_total", "Renewals that failed or came too late", registry=registry)
fences_total = Counter("kvip_fences_total", "Fences: everything withdrawn at once, by reason", ["reason"], registry=registry)
claims_held = Gauge("kvip_claims_held", "VIPs that this node holds by the claim records (mode claims)", registry=registry)
members_alive = Gauge("kvip_members_alive", "Living nodes with a heartbeat, this one included (mode claims)", registry=registry)
switch_enabled = Gauge("kvip_switch_enabled", "1 with the dead-man's switch, 0 with --switch=false", registry=registry)
switch_ready = Gauge(
    "kvip_switch_ready", "1 while the dead-man's switch stands as it should, 0 without one or while it cannot be had", registry=registry
)
switch_restored_total = Counter(
    "kvip_switch_restored_total", "Times the switch's rules were put back after someone removed them", registry=registry
)
service_rules_vips = Gauge("kvip_service_rules_vips", "VIPs to which only their Services' ports are let through", registry=registry)
service_rules_changes_total = Counter(
    "kvip_service_rules_changes_total", "Replacements of the table of service security, by result", ["result"], registry=registry
)
service_rules_restored_total = Counter(
    "kvip_service_rules_restored_total", "Times the table of service security was put back after someone changed it", registry=registry
)
service_rules_pending_seconds = Gauge(
    "kvip_service_rules_pending_seconds",
    "Seconds for which the table of service security has not been as wanted, 0 = it is",
    registry=registry,
)
foreign_rules = Gauge("kvip_foreign_rules", "Firewall rules, chains and tables of kube-vip found on this node at start", registry=registry)
swept_total = Counter("kvip_swept_addresses_total", "Marked addresses without a live owner that were removed", registry=registry)
conflicts_total = Counter("kvip_conflicts_total", "VIPs found bound on this node without kvip's mark", registry=registry)
vips_in_conflict = Gauge("kvip_vips_in_conflict", "VIPs that another host has or claims now", registry=registry)
address_conflicts_total = Counter("kvip_address_conflicts_total", "Conflicts with another host, by how found", ["found"], registry=registry)
foreign_claims_total = Counter("kvip_foreign_claims_total", "Frames that claim a VIP held here, by origin", ["by"], registry=registry)
defences_total = Counter("kvip_defences_total", "Announcements in answer to a stranger's claim", registry=registry)
claim_frames_lost_total = Counter("kvip_claim_frames_lost_total", "ARP and ND frames lost before they were read", registry=registry)
put_back_total = Counter("kvip_put_back_total", "VIPs that someone else removed and kvip bound again", registry=registry)
strays = Gauge("kvip_strays", "Addresses on the VIPs' NICs that look like VIPs and that nobody answers for", registry=registry)
strays_total = Counter("kvip_stray_addresses_total", "Stray addresses acted on, by outcome", ["outcome"], registry=registry)
informer_synced = Gauge("kvip_informer_synced", "1 once the cache of a kind is complete", ["kind"], registry=registry)
informer_heard_seconds = Gauge(
    "kvip_informer_last_heard_seconds", "Seconds since the server was heard about a kind, -1 = never", ["kind"], registry=registry
)
informer_relists_total = Counter(
    "kvip_informer_relists_total", "Snapshots asked for after the first one, by kind", ["kind"], registry=registry
)
informer_unreadable_total = Counter(
    "kvip_informer_unreadable_objects_total",
    "Objects that could not be decoded; their last good version stays in use",
    ["kind"],
    registry=registry,
)
api_requests_total = Counter("kvip_api_requests_total", "API requests by verb and code, 0 = no answer", ["verb", "code"], registry=registry)
netlink_errors_total = Counter(
    "kvip_netlink_errors_total",
    "Requests about addresses that the kernel refused or did not answer, by operation (add, replace, delete, dump)",
    ["operation"],
    registry=registry,
)
netlink_resyncs_total = Counter(
    "kvip_netlink_resyncs_total",
    "Complete dumps of kernel addresses, by cause (start, event, link, audit, overrun, fence, failure)",
    ["cause"],
    registry=registry,
)
journal_failures_total = Counter("kvip_journal_failures_total", "Journal writes or reads that failed", registry=registry)
events_total = Counter("kvip_events_total", "Kubernetes Events by reason", ["reason"], registry=registry)
loop_lag_seconds = Gauge("kvip_loop_lag_seconds", "Longest that a timer of the daemon was late in the last 10 s", registry=registry)
tasks = Gauge("kvip_tasks", "asyncio tasks of this daemon", registry=registry)
component_failures_total = Counter(
    "kvip_component_failures_total", "Components started again after a failure", ["component"], registry=registry
)
