"""The loop of mode `claims` where reports and answers cross: doubts, a switch that refuses, the release, a fence within a report."""

import asyncio
import logging

import pytest

from kvip.core.election.records import DEFAULT_COUNT, name_of, number_of
from tests.unit.daemon.claims_bench import SLOW_S, WATCH_S, Bench
from tests.unit.daemon.test_claims_loop import HEARTBEAT, VIP, holding


@pytest.fixture
def bench():
    return Bench()


def test_f2_only_reads_that_were_sent_after_a_peers_claim_answer_the_doubt(bench):
    async def story():
        node = await holding(bench, VIP)
        bench.store.fault = lambda verb, name: "slow" if verb == "GET" else None
        node.loop.doubt(VIP)
        await asyncio.sleep(SLOW_S / 2)
        node.loop.doubt(VIP)
        del node.hands.armed[:], bench.store.log[:]
        bench.store.fault = lambda verb, name: None
        while not node.hands.armed:
            await asyncio.sleep(0.0005)
        read = {name for _, verb, name in bench.store.log if verb == "GET"}
        assert read == {HEARTBEAT, name_of(number_of(VIP, DEFAULT_COUNT))}

    bench.play(story)


def test_a_switch_that_cannot_be_armed_is_tried_once_per_period(bench):
    async def story():
        node = await holding(bench, VIP)
        node.hands.problem = "the switch cannot be armed"
        await asyncio.sleep(10)
        assert 5 <= len(node.hands.fences) <= 12

    bench.play(story)


def test_what_the_watch_shows_after_the_release_neither_renews_nor_fences(bench):
    async def story():
        node = await holding(bench, VIP)
        bench.store.fault = lambda verb, name: 0.5
        known = bench.store.leases[HEARTBEAT]
        while bench.store.leases[HEARTBEAT] is known:
            await asyncio.sleep(0.0005)
        # The renewal is carried out, and on its way in the watch, when the daemon is stopped.
        await bench.stop(node.task)
        del node.hands.armed[:]
        bench.store.fault = lambda verb, name: None
        await asyncio.gather(node.loop.release(), asyncio.sleep(10 * WATCH_S))
        assert bench.store.leases[HEARTBEAT].spec.holder_identity == ""
        assert node.loop.valid_until is None
        assert (node.hands.armed, node.hands.fences) == ([], [])

    bench.play(story)


def test_r4_a_suspend_noticed_within_the_report_of_a_renewal_leaves_nothing_valid(bench):
    async def story():
        node = await holding(bench, VIP)

        def announce():
            bench.clock.suspend(0.5)
            assert node.loop.permit(VIP) is None

        node.hands.on_renewed = announce
        while not node.hands.fences:
            await asyncio.sleep(0.0005)
        node.hands.on_renewed = lambda: None
        assert node.loop.valid_until is None

    bench.play(story)


def test_answers_that_cannot_be_read_are_no_answers_and_do_not_end_the_loop(bench):
    async def story():
        node = await holding(bench, VIP)
        bench.store.fault = lambda verb, name: "garbled"
        await asyncio.sleep(1.5)
        assert not node.task.done()
        bench.store.fault = lambda verb, name: None
        await asyncio.sleep(2)
        assert node.loop.permit(VIP) is not None
        assert not node.hands.fences

    bench.play(story)


def test_a_doubt_whose_read_fails_once_is_asked_again_and_no_fence(bench):
    async def story():
        node = await holding(bench, VIP)
        faults = ["refused"]
        bench.store.fault = lambda verb, name: faults.pop() if (verb, name) == ("GET", HEARTBEAT) and faults else None
        node.loop.doubt(VIP)
        del node.hands.armed[:]
        await asyncio.sleep(0.5)
        assert not node.hands.fences
        assert node.hands.armed

    bench.play(story)


def test_a_holder_that_cannot_find_out_does_not_hold(bench):
    async def story():
        node = await holding(bench, VIP)
        bench.store.fault = lambda verb, name: "refused" if verb == "GET" else None
        node.loop.doubt(VIP)
        await asyncio.sleep(0.5)
        assert len(node.hands.fences) == 1

    bench.play(story)


def test_what_is_not_ones_own_is_not_given_back_and_not_said_to_be(bench, caplog):
    """The heartbeat names a predecessor of which nothing is known: it may live on another machine of this name."""
    caplog.set_level(logging.INFO)

    async def story():
        one = await holding(bench, VIP)
        await bench.stop(one.task)
        two = bench.start("n1", VIP)
        await asyncio.sleep(1.0)
        await bench.stop(two.task)
        await two.loop.release()
        assert bench.store.leases[HEARTBEAT].spec.holder_identity == one.loop.incarnation
        assert not [record for record in caplog.records if "given back" in record.message]

    bench.play(story)


def test_a_refused_request_is_said_once_with_the_servers_words_and_an_overtaken_one_is_not(bench, caplog):
    async def story():
        node = await holding(bench, VIP)
        with caplog.at_level(logging.WARNING, "kvip.daemon.validity"):
            bench.store.fault = lambda verb, name: "refused" if verb == "PUT" else None
            await asyncio.sleep(1.5)
            bench.store.fault = lambda verb, name: None
            bench.store.write(HEARTBEAT, holder=node.loop.incarnation)
            await asyncio.sleep(2)
        said = [(record.lease, record.reason) for record in caplog.records if record.name == "kvip.daemon.validity"]
        assert said == [(HEARTBEAT, f"PUT {HEARTBEAT}: 500 InternalError")]

    bench.play(story)
