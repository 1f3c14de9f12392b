"""What follows when another host claims a VIP: a peer's claim is a question to the election, a stranger's is defended."""

import asyncio

import pytest

from kvip.daemon.disputes import Disputes
from kvip.observe.state import Instants
from tests.unit.clock_loop import ClockLoop
from tests.unit.daemon import conflict_bench
from tests.unit.daemon.conflict_bench import PEER, STRANGER
from tests.unit.daemon.fake_ports import ETH0, OTHER, THIRD, VIP, marked, service
from tests.unit.daemon.house import House


class Bench:
    """A house that holds VIP and OTHER, armed, with a fake listener on its segment."""

    def __init__(self, *, probes=True):
        self.house = house = House()
        self.segment = conflict_bench.Bench()
        self.segment.clock = house.clock
        self.looked_at = []
        self.disputes = house.disputes = Disputes(
            clock=house.clock,
            heartbeats=house.heartbeats,
            facts=house.facts,
            desire=house.desire,
            executor=house.executor,
            publisher=house.publisher,
            elector=lambda: house.elector,
            look_at=lambda vips: self.looked_at.append(list(vips)),
            nics=house.nics,
            probes=probes,
            chronicle=house.chronicle,
        )
        self.disputes.watch._listen = self.segment.listen
        house.read(service(VIP, OTHER))
        self.hold(VIP, OTHER)

    def hold(self, *vips):
        self.house.guard.admit(dict.fromkeys(vips, "eth0"))
        for vip in vips:
            self.house.know(marked(vip))
            self.house.announcer.start(vip, ETH0)
            self.house.publisher.announced(vip, "eth0")
        assert self.house.wires.renewed(self.house.clock.now() + 3600) == ""
        self.house.log.clear()
        self.house.events.posted.clear()

    def did(self):
        return [entry for entry in self.house.log if entry[0] in ("disarm", "doubt", "arm_first", "rearm", "start")]

    def play(self, story):
        async def scene():
            tasks = [asyncio.create_task(run()) for run in self.disputes.components().values()]
            await asyncio.sleep(0)
            try:
                await story()
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.house.clock)) as runner:
            runner.run(scene())


@pytest.fixture
def bench():
    return Bench()


def test_f2_a_peers_claim_disarms_first_then_asks_and_announces_only_when_confirmed(bench):
    async def story():
        bench.segment.claim(VIP, PEER)
        assert bench.did() == [("disarm", ""), ("doubt", "")]
        assert not bench.house.switch.answers(VIP)
        await asyncio.sleep(0.5)
        assert bench.did() == [("disarm", ""), ("doubt", "")]
        assert bench.house.wires.renewed(bench.house.clock.now() + 3) == ""
        assert bench.did()[2:] == [("arm_first", ""), ("start", VIP)]
        assert bench.house.switch.answers(VIP)

    bench.play(story)
    assert bench.house.events.posted == []


def test_f2_a_confirmation_announces_what_was_claimed_once(bench):
    async def story():
        bench.segment.claim(VIP, PEER)
        bench.segment.claim(OTHER, PEER)
        for _ in range(3):
            bench.house.wires.renewed(bench.house.clock.now() + 3)
        assert sorted(entry for entry in bench.did() if entry[0] == "start") == [("start", VIP), ("start", OTHER)]

    bench.play(story)


def test_f2_an_election_that_says_lost_announces_nothing(bench):
    async def story():
        bench.segment.claim(VIP, PEER)
        bench.house.elector.fence("lease changed by another")
        bench.house.elector.permits = True
        bench.house.log.clear()
        bench.house.wires.renewed(bench.house.clock.now() + 3)
        assert bench.did() == [("arm_first", "")]

    bench.play(story)


def test_f2_a_switch_that_cannot_be_armed_again_announces_nothing(bench):
    async def story():
        bench.segment.claim(VIP, PEER)
        bench.house.switch.fails = {"arm_first"}
        assert bench.house.wires.renewed(bench.house.clock.now() + 3) == "the switch cannot be armed"
        assert ("start", VIP) not in bench.did()

    bench.play(story)


def test_f1_a_peer_that_goes_on_claiming_is_a_question_once_a_second(bench):
    async def story():
        for _ in range(50):
            bench.segment.claim(VIP, PEER, count=5)
            await asyncio.sleep(0.1)
        assert 5 <= bench.house.elector.doubts <= 6

    bench.play(story)


def test_f2_a_strangers_claim_is_told_and_defended_and_the_switch_stays_armed(bench):
    async def story():
        bench.segment.claim(VIP, STRANGER)
        assert bench.did() == [("doubt", "")], "the stranger may be a peer that is not known as one"
        assert bench.house.switch.answers(VIP)
        assert bench.house.events.told() == [("VIPConflict", "uid-1")]
        for _ in range(80):
            bench.house.wires.renewed(bench.house.clock.now() + 60)
            bench.segment.claim(VIP, STRANGER)
            await asyncio.sleep(0.1)
        assert bench.did().count(("start", VIP)) == 1
        assert len(bench.house.events.posted) == 1

    bench.play(story)


def test_a_claim_of_a_vip_that_is_not_held_here_leads_to_nothing(bench):
    async def story():
        bench.house.announcer.stop(VIP)
        bench.house.log.clear()
        bench.segment.claim(VIP, STRANGER)
        bench.segment.claim(VIP, PEER)
        assert bench.did() == []

    bench.play(story)
    assert bench.house.events.posted == []


def test_without_a_permit_a_strangers_claim_is_not_answered(bench):
    async def story():
        bench.house.elector.permits = False
        bench.segment.claim(VIP, STRANGER)
        assert ("start", VIP) not in bench.did()

    bench.play(story)


def test_without_its_nic_a_vip_is_not_announced(bench):
    async def story():
        bench.segment.claim(VIP, PEER)
        bench.house.facts.links.clear()
        bench.house.wires.renewed(bench.house.clock.now() + 3)
        assert ("start", VIP) not in bench.did()

    bench.play(story)


def test_an_address_found_taken_before_the_first_bind_is_told_and_bound_when_it_is_free(bench):
    third = "192.0.2.9"
    bench.house.read(service(VIP, OTHER, third))
    bench.segment.hosts = {third: STRANGER}

    async def story():
        assert bench.disputes.probing.unprobed(third, ETH0)
        bench.disputes.probing.ask([third], ETH0)
        await asyncio.sleep(1)
        assert bench.disputes.probing.contested(third)
        assert "not bound" in bench.house.events.posted[-1][2]
        bench.segment.hosts = {}
        bench.looked_at.clear()
        await asyncio.sleep(45)
        assert not bench.disputes.probing.contested(third)
        assert [third] in bench.looked_at
        noted = bench.house.chronicle.view(Instants(now=bench.house.clock.now(), wall=bench.house.clock.wall()))
        assert [one.change for one in noted if third in one.vips] == ["conflict", "conflict-over"]
        assert STRANGER.hex(":") in next(one.detail for one in noted if third in one.vips)

    bench.play(story)


@pytest.mark.parametrize("end", ["service gone", "handed over"])
def test_a_conflict_of_a_vip_that_is_no_longer_this_nodes_is_forgotten(bench, end):
    async def story():
        bench.segment.claim(VIP, STRANGER)
        assert bench.disputes.watch.conflicting(VIP) == STRANGER
        if end == "service gone":
            bench.house.delete()
            bench.house.look("default/web")
        else:
            bench.house.elector.permits = {OTHER}
            bench.house.announcer.stop(VIP)
        await asyncio.sleep(1.5)
        assert bench.disputes.watch.conflicting(VIP) is None

    bench.play(story)


def test_switched_off_nobody_is_asked_but_claims_are_heard():
    bench = Bench(probes=False)

    async def story():
        assert not bench.disputes.probing.unprobed("192.0.2.9", ETH0)
        bench.segment.claim(VIP, STRANGER)
        assert ("doubt", "") in bench.did()

    bench.play(story)


def test_a_duplicate_that_the_kernel_found_is_told_to_the_service_and_asked_for_before_it_is_bound_again(bench):
    async def story():
        assert bench.disputes.probing.first(VIP)
        bench.disputes.duplicate(VIP)
        bench.disputes.duplicate(THIRD)
        assert bench.disputes.probing.unprobed(VIP, ETH0)
        assert not bench.disputes.probing.first(VIP)
        assert bench.looked_at == [[VIP]]

    bench.play(story)
    assert bench.house.events.told() == [("VIPConflict", "uid-1")]


@pytest.mark.parametrize("written", [True, False])
def test_what_is_written_with_the_ownership_counts_and_not_the_status_that_anybody_may_write(bench, written):
    bench.house.read(service(THIRD, key="default/api", uid="uid-2", shows=() if written else (THIRD,)))
    bench.house.elector.proven = {THIRD: written}

    async def story():
        assert bench.disputes.probing.unprobed(THIRD, ETH0) is not written

    bench.play(story)


def test_i5_before_every_service_was_read_it_is_not_forgotten_on_which_nic_a_former_daemon_had_a_vip(bench):
    bench.house.desire.read_through(False)
    bench.disputes.probing.remember({THIRD: "eth1"})
    bench.disputes.probing.tidy()
    bench.house.read(service(VIP, OTHER, THIRD))
    bench.disputes.probing.look(THIRD, ETH0)
    assert bench.disputes.probing.in_doubt(THIRD, ETH0)
