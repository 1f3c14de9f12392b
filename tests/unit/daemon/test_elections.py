"""Which elector a daemon gets, and what a node that is no member does: nothing."""

import asyncio

import pytest

from kvip.clock import ManualClock
from kvip.core.election.heartbeat import About
from kvip.daemon.bystander import Bystander
from kvip.daemon.claims_loop import ClaimsLoop
from kvip.daemon.elections import build_elector, lease_filter
from kvip.daemon.global_election import GlobalElection
from kvip.daemon.per_service_election import PerServiceElection
from kvip.daemon.supervision import Heartbeats
from kvip.settings import Settings
from tests.unit.daemon.fake_ports import VIP
from tests.unit.daemon.house import House


def elector(**settings):
    house = House()
    clock = ManualClock()
    return build_elector(
        Settings(node_name="n1", lease_name="svcs", **settings),
        client=lambda namespace: None,
        clock=clock,
        heartbeats=Heartbeats(clock),
        demand=house.demand,
        wires=house.wires,
        services=house.services,
        leases=house.services,
        about=About,
    )


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"election": "claims"}, ClaimsLoop),
        ({"election": "global"}, GlobalElection),
        ({"election": "per-service"}, PerServiceElection),
        ({"election": "global", "per_service_on_demand": True}, PerServiceElection),
        ({"election": "claims", "members": "n1, n2"}, ClaimsLoop),
        ({"election": "claims", "members": "n2"}, Bystander),
        ({"election": "global", "members": "n2,n3"}, Bystander),
    ],
)
def test_the_mode_and_the_members_choose_the_elector(settings, kind):
    assert type(elector(**settings)) is kind


def test_each_mode_watches_the_leases_it_needs():
    assert lease_filter(Settings(election="claims")) == ("kube-system", {"labelSelector": "app.kubernetes.io/managed-by=kvip"})
    assert lease_filter(Settings(election="global", lease_name="svcs")) == ("kube-system", {"fieldSelector": "metadata.name=svcs"})
    assert lease_filter(Settings(election="per-service")) == ("", {})
    assert lease_filter(Settings(election="global", per_service_on_demand=True)) == ("", {})


async def test_a_node_that_is_no_member_holds_nothing_and_turns():
    heartbeats = Heartbeats(ManualClock())
    bystander = Bystander("n1", heartbeats)
    running = asyncio.create_task(bystander.run())
    await asyncio.sleep(0)
    assert heartbeats.age_s("election") == 0
    assert (bystander.permit(VIP), bystander.valid_until, bystander.speaks("uid-1")) == (None, None, False)
    assert bystander.elsewhere(VIP), "what a former daemon left here is not waited for"
    running.cancel()
