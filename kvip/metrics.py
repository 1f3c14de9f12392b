"""Every metric of kvip, in one place, on one registry of its own.

Names follow the Prometheus conventions; labels are bounded (no label per VIP or Service).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()

build_info = Gauge("kvip_build_info", "Version and frame implementation; always 1", ["version", "frames"], registry=registry)
vips = Gauge("kvip_vips", "VIPs by state on this node", ["state"], registry=registry)
actions_total = Counter("kvip_actions_total", "Changes of kernel addresses by kind and result", ["action", "result"], registry=registry)
take_seconds = Histogram(
    "kvip_take_seconds",
    "Seconds from the change that asked for a VIP to its first frame",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=registry,
)
frames_total = Counter("kvip_frames_sent_total", "Announcement frames that left", ["family", "priority"], registry=registry)
frame_errors_total = Counter("kvip_frame_errors_total", "Announcement batches that the NIC refused", registry=registry)
frames_waiting = Gauge("kvip_announcements_waiting", "Announcement rounds that are due and wait for the pacer", registry=registry)
lease_holding = Gauge("kvip_lease_holding", "1 while this node may hold VIPs", registry=registry)
lease_valid_seconds = Gauge("kvip_lease_valid_seconds", "Seconds for which this node may still act, 0 = none", registry=registry)
lease_renewal_failures_total = Counter("kvip_lease_renewal_failures_total", "Renewals that failed or came too late", registry=registry)
fences_total = Counter("kvip_fences_total", "Fences: everything withdrawn at once", ["reason"], registry=registry)
claims_held = Gauge("kvip_claims_held", "VIPs that this node holds by the claim records (mode claims)", registry=registry)
members_alive = Gauge("kvip_members_alive", "Living nodes with a heartbeat, this one included (mode claims)", registry=registry)
switch_enabled = Gauge("kvip_switch_enabled", "1 with the dead-man's switch, 0 with --switch=false", registry=registry)
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
informer_heard_seconds = Gauge("kvip_informer_last_heard_seconds", "Seconds since the server was heard", ["kind"], registry=registry)
informer_relists_total = Counter("kvip_informer_relists_total", "Complete lists read", ["kind"], registry=registry)
api_requests_total = Counter("kvip_api_requests_total", "API requests by verb and code, 0 = no answer", ["verb", "code"], registry=registry)
netlink_resyncs_total = Counter("kvip_netlink_resyncs_total", "Complete dumps of kernel addresses by cause", ["cause"], registry=registry)
journal_failures_total = Counter("kvip_journal_failures_total", "Journal writes or reads that failed", registry=registry)
events_total = Counter("kvip_events_total", "Kubernetes Events by reason", ["reason"], registry=registry)
loop_lag_seconds = Gauge("kvip_loop_lag_seconds", "Longest that a timer of the daemon was late in the last 10 s", registry=registry)
tasks = Gauge("kvip_tasks", "asyncio tasks of this daemon", registry=registry)
component_failures_total = Counter(
    "kvip_component_failures_total", "Components started again after a failure", ["component"], registry=registry
)
