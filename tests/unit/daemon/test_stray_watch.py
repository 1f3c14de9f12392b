"""The stray watch: a grace period, once per change, forgotten when gone, removed only where that was asked for."""

import pytest

from kvip import metrics
from kvip.clock import ManualClock
from kvip.core.addresses import parse_networks
from kvip.core.desired import Rules, Wish
from kvip.core.facts import Facts
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import MARK_PROTO, Address, IfIndex, Link
from kvip.core.objects import ObjectMeta, Service, ServiceSpec
from kvip.core.strays import parse_ranges
from kvip.daemon import strays
from kvip.daemon.strays import StrayWatch

NIC = IfIndex(2)
OWN = Address(ip="10.0.0.1", prefix_len=24, index=NIC)


def vip(text="10.0.0.7", **fields):
    return Address(ip=text, prefix_len=128 if ":" in text else 32, index=NIC, **fields)


def service(name="web", ip="10.0.0.7", version="1", load_balancer_class=None):
    return Service(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", resource_version=version),
        spec=ServiceSpec(type="LoadBalancer", load_balancer_ip=ip, load_balancer_class=load_balancer_class),
    )


class Scene:
    def __init__(self, remove=None, ranges="", allowed=()):
        self.clock = ManualClock()
        self.facts = Facts()
        self.facts.links[NIC] = Link(index=NIC, name="eth0", mac=bytes(6), up=True, carrier=True)
        self.services = {}
        self.ledger = Ledger()
        self.node_addresses = set()
        self.known = True
        self.reports = []
        self.bound()
        self.watch = StrayWatch(
            self.clock,
            self.facts,
            lambda: self.services,
            self.ledger,
            lambda: self.node_addresses,
            self.reports.append,
            remove,
            rules=Rules(load_balancer_class="kvip", allowed=parse_networks(allowed)),
            nics=lambda: {"eth0"},
            known=lambda: self.known,
            ranges=parse_ranges(ranges),
        )

    def bound(self, *addresses):
        self.facts.replace_all([OWN, *addresses], now=self.clock.now())

    def serve(self, *services):
        self.services = {f"default/{service.metadata.name}": service for service in services}

    def pass_s(self, seconds):
        self.clock.advance(seconds)
        self.watch.check()

    @property
    def told(self):
        return [(stray.address.ip, stray.outcome) for stray in self.reports]


@pytest.fixture
def scene():
    return Scene()


def test_a_stray_is_reported_once_after_the_grace_period(scene):
    scene.serve(service())
    scene.bound(vip())
    scene.watch.check()
    scene.pass_s(59.9)
    assert scene.told == []
    assert scene.watch.strays == ()
    scene.pass_s(0.2)
    assert scene.told == [("10.0.0.7", "reported")]
    assert scene.reports[0].message == "10.0.0.7 on eth0 is the VIP of default/web, but was not bound by kvip; left alone"
    assert metrics.strays._value.get() == 1
    scene.pass_s(600)
    assert len(scene.told) == 1


def test_a_stray_that_goes_within_the_grace_period_is_never_told_and_begins_anew(scene):
    scene.serve(service())
    scene.bound(vip())
    scene.watch.check()
    scene.bound()
    scene.pass_s(50)
    scene.bound(vip())
    scene.pass_s(20)
    assert scene.told == []
    scene.pass_s(60)
    assert len(scene.told) == 1


def test_a_stray_that_is_gone_is_forgotten_and_told_again_when_it_returns(scene, caplog):
    scene.serve(service())
    scene.bound(vip())
    scene.watch.check()
    scene.pass_s(60)
    scene.bound()
    caplog.set_level("INFO")
    scene.pass_s(60)
    assert scene.watch.strays == ()
    assert metrics.strays._value.get() == 0
    assert "stray address is gone" in caplog.messages
    scene.bound(vip())
    scene.pass_s(1)
    scene.pass_s(60)
    assert len(scene.told) == 2


def test_a_change_of_its_reason_is_told(scene):
    scene.serve(service())
    scene.bound(vip())
    scene.watch.check()
    scene.pass_s(60)
    scene.serve()
    scene.pass_s(60)
    assert [stray.reason for stray in scene.reports] == [
        "is the VIP of default/web, but was not bound by kvip",
        "was the VIP of default/web, which no longer has it",
    ]


def test_an_address_left_by_a_service_that_was_deleted_or_moved_is_a_stray_without_any_range(scene):
    scene.serve(service("a", "10.0.0.7", load_balancer_class="other"), service("b", "10.0.0.8", load_balancer_class="other"))
    scene.bound(vip("10.0.0.7"), vip("10.0.0.8"))
    scene.watch.check()
    scene.pass_s(600)
    assert scene.told == [], "both belong to Services of another daemon"
    scene.serve(service("b", "10.0.0.9", version="2", load_balancer_class="other"))
    scene.pass_s(1)
    scene.pass_s(60)
    assert sorted(ip for ip, _ in scene.told) == ["10.0.0.7", "10.0.0.8"]


def test_what_a_former_daemon_knew_is_remembered(scene):
    scene.watch.remember({"10.0.0.7": (Claimant(uid="u", service="default/old"),)})
    scene.bound(vip())
    scene.watch.check()
    scene.pass_s(60)
    assert scene.reports[0].reason == "was the VIP of default/old, which no longer has it"


def test_an_address_in_a_range_that_nobody_has_is_a_stray():
    scene = Scene(ranges="10.0.0.128/25")
    scene.bound(vip("10.0.0.200"), vip("10.0.0.7"))
    scene.watch.check()
    scene.pass_s(60)
    assert scene.told == [("10.0.0.200", "reported")]


def test_marked_addresses_and_the_nodes_own_are_not_its_business():
    scene = Scene(ranges="10.0.0.0/8")
    scene.node_addresses = {"10.0.0.8"}
    scene.bound(vip("10.0.0.7", proto=MARK_PROTO), vip("10.0.0.8"))
    scene.watch.check()
    scene.pass_s(600)
    assert scene.told == []


def test_a_claim_in_the_ledger_counts_though_the_service_says_nothing_of_it(scene):
    scene.ledger.claim(Wish(uid="u", key="default/web", addresses=("10.0.0.7",)), since="")
    scene.bound(vip())
    scene.watch.check()
    scene.pass_s(60)
    assert scene.reports[0].reason == "is the VIP of default/web, but was not bound by kvip"


def test_nothing_is_judged_while_the_services_are_not_known():
    scene = Scene(remove=lambda address: pytest.fail("removed"), ranges="10.0.0.0/24")
    scene.known = False
    scene.bound(vip())
    scene.watch.check()
    scene.pass_s(600)
    assert scene.told == []
    scene.known = True
    scene.serve(service(load_balancer_class="other"))
    scene.pass_s(1)
    scene.pass_s(600)
    assert scene.told == []


def test_it_is_removed_only_where_that_was_asked_for_and_after_the_grace_period():
    removed = []
    scene = Scene(remove=lambda address: removed.append(address.ip) or "")
    scene.serve(service())
    scene.bound(vip())
    scene.watch.check()
    assert removed == []
    scene.pass_s(60)
    assert removed == ["10.0.0.7"]
    assert scene.told == [("10.0.0.7", "removed")]
    assert scene.watch.strays == ()


def test_a_removal_that_fails_is_tried_at_each_check_and_told_once():
    answers = ["busy", "busy", ""]
    scene = Scene(remove=lambda address: answers.pop(0))
    scene.serve(service())
    scene.bound(vip())
    scene.watch.check()
    for _ in range(3):
        scene.pass_s(60)
    assert scene.told == [("10.0.0.7", "not removed: busy"), ("10.0.0.7", "removed")]
    assert answers == []


def test_memory_of_former_services_is_bounded(scene, monkeypatch):
    monkeypatch.setattr(strays, "REMEMBERED_LIMIT", 3)
    scene.watch.remember({f"10.0.0.{n}": (Claimant(uid="u", service="default/old"),) for n in range(1, 10)})
    assert list(scene.watch._former) == ["10.0.0.7", "10.0.0.8", "10.0.0.9"]


@pytest.mark.parametrize(("allowed", "gone"), [((), ["10.0.0.7"]), (["10.9.0.0/16"], [])])
def test_naming_an_address_outside_the_allowed_ones_has_nobody_remove_it(allowed, gone):
    """Whoever may edit a Service could have an address of the host removed by naming it."""
    removed = []
    scene = Scene(remove=lambda address: removed.append(address.ip) or "", allowed=allowed)
    scene.serve(service())
    scene.bound(vip())
    scene.watch.check()
    scene.pass_s(61)
    assert removed == gone
