"""The gauges at a scrape: what is so then, and series per VIP only where they are asked for."""

from types import SimpleNamespace

import pytest

from kvip import metrics
from kvip.clock import ManualClock
from kvip.core.objects import Service
from kvip.daemon.caches import Caches
from kvip.daemon.gauges import update_gauges
from kvip.settings import Settings
from tests.unit.daemon.fake_ports import API, OTHER, VIP, WEB, marked, service
from tests.unit.daemon.house import House


def value(name, **labels):
    return metrics.registry.get_sample_value(name, labels)


class Daemon:
    """The parts that gauges look at: one VIP bound and announced, another one only claimed."""

    def __init__(self, **settings):
        self.house = House()
        self.clock = self.house.clock
        self.ledger, self.facts, self.outcome = self.house.desire.ledger, self.house.facts, self.house.outcome
        self.settings = Settings(**settings)
        self.caches = SimpleNamespace(update_gauges=lambda: None)
        self.guard = SimpleNamespace(weak=False, problem="")
        self.firewall = SimpleNamespace(pending_s=lambda: 0.0)
        self.lag = SimpleNamespace(longest_s=0.25)
        self.elector = SimpleNamespace(valid_until=self.clock.now() + 2.0)
        self.renewed_at = self.clock.now() - 1.0
        self.house.read(service(VIP), service(OTHER, key=API, uid="uid-2"))
        self.house.know(marked(VIP))
        self.outcome.announced(VIP, self.clock.now())


@pytest.fixture(autouse=True)
def no_series():
    yield
    metrics.vip_series.rows = ()


async def test_vips_by_state_the_lease_and_the_loop():
    update_gauges(Daemon())
    assert [value("kvip_vips", state=state) for state in ("claimed", "bound", "announced")] == [2, 1, 1]
    assert (value("kvip_lease_valid_seconds"), value("kvip_lease_age_seconds")) == (2.0, 1.0)
    assert value("kvip_loop_lag_seconds") == 0.25
    assert value("kvip_switch_ready") == 1
    assert metrics.vip_series.rows == ()


@pytest.mark.parametrize(("weak", "problem"), [(True, ""), (False, "the switch cannot be put back")])
async def test_a_switch_that_is_off_or_cannot_be_had_is_not_ready(weak, problem):
    daemon = Daemon()
    daemon.guard = SimpleNamespace(weak=weak, problem=problem)
    update_gauges(daemon)
    assert value("kvip_switch_ready") == 0


async def test_before_the_first_renewal_there_is_no_age():
    daemon = Daemon()
    daemon.renewed_at, daemon.elector = None, SimpleNamespace(valid_until=None)
    update_gauges(daemon)
    assert (value("kvip_lease_valid_seconds"), value("kvip_lease_age_seconds")) == (0, -1)


async def test_the_series_per_vip_name_each_service_and_go_with_the_vip():
    daemon = Daemon(vip_metrics=True)
    update_gauges(daemon)
    namespace, _, name = WEB.partition("/")
    assert value("kvip_vip_announced", vip=VIP, namespace=namespace, service=name) == 1
    daemon.outcome.hushed(VIP)
    update_gauges(daemon)
    assert value("kvip_vip_announced", vip=VIP, namespace=namespace, service=name) == 0
    daemon.facts.note_gone(marked(VIP))
    update_gauges(daemon)
    assert metrics.vip_series.rows == ()


def test_relists_and_unreadable_objects_are_counted_once():
    quiet = dict.fromkeys(("on_service", "on_slice", "on_node", "on_lease", "beat"), lambda _: None)
    caches = Caches(
        api=None, lease_api=None, lease_namespace="x", lease_filter={}, services_in="", service_kind=Service, clock=ManualClock(),
        on_snapshot=lambda: None, on_leases=lambda: None, **quiet,
    )  # fmt: skip
    caches.update_gauges()
    before = value("kvip_informer_relists_total", kind="leases"), value("kvip_informer_unreadable_objects_total", kind="services")
    caches.leases.relists, caches.services.broken = 2, 3
    caches.update_gauges()
    caches.update_gauges()
    after = value("kvip_informer_relists_total", kind="leases"), value("kvip_informer_unreadable_objects_total", kind="services")
    assert after == (before[0] + 2, before[1] + 3)
    assert value("kvip_informer_last_heard_seconds", kind="leases") == -1
