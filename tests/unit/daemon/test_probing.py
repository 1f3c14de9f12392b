"""Asking the segment before a first bind: once for many, again after a failure, and forgotten with the last claim."""

import asyncio

import msgspec
import pytest

from kvip.clock import ManualClock
from kvip.core.model import IfIndex
from kvip.daemon.probing import RECREATED_S, Probing
from kvip.errors import AnnounceError
from tests.unit.daemon.conflict_bench import ClockLoop
from tests.unit.daemon.fake_ports import ETH0, ETH1, OTHER, THIRD, VIP

STRANGER = b"\2\0\0\0\0\x99"
PROBE_S = 0.15


class Watch:
    """The side of `ConflictWatch` that is asked: hosts answer for their addresses, and the NIC may refuse."""

    def __init__(self):
        self.asked = []
        self.hosts = {}
        self.failures = []
        self.contested = set()

    async def probe(self, vips, link):
        self.asked.append(list(vips))
        await asyncio.sleep(PROBE_S)
        if self.failures:
            raise self.failures.pop(0)
        return {vip: mac for vip, mac in self.hosts.items() if vip in vips}

    def may_bind(self, vip):
        return vip not in self.hosts and vip not in self.contested


class Bench:
    def __init__(self):
        self.clock = ManualClock()
        self.watch = Watch()
        self.had = set()
        self.homes = {}  # VIP -> the NIC on which it is bound here
        self.before = {}
        self.claimed = {VIP, OTHER, THIRD}
        self.answers = []  # (seconds since start, VIPs)
        self.probing = Probing(
            self.watch,
            had=lambda vip: vip in self.had,
            succeeds=lambda vip: self.before.get(vip, ""),
            home=lambda vip: self.homes.get(vip),
            claimed=lambda vip: vip in self.claimed,
            clock=self.clock,
            on_answer=lambda vips: self.answers.append((round(self.clock.now() - 1000.0, 3), list(vips))),
        )

    def play(self, story):
        async def scene():
            self.task = asyncio.create_task(self.probing.run())
            try:
                await story(self.probing)
            finally:
                result = await self.stop()
            assert isinstance(result, asyncio.CancelledError), result

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())

    async def stop(self):
        self.task.cancel()
        (result,) = await asyncio.gather(self.task, return_exceptions=True)
        return result

    async def start_again(self):
        await self.stop()
        self.task = asyncio.create_task(self.probing.run())


@pytest.fixture
def bench():
    return Bench()


def test_many_vips_are_asked_for_together_and_then_free(bench):
    async def story(probing):
        assert probing.unprobed(VIP, ETH0)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)
        assert not probing.unprobed(OTHER, ETH0)
        assert probing.unprobed(THIRD, ETH0)

    bench.play(story)
    assert bench.watch.asked == [[VIP, OTHER]]
    assert bench.answers == [(PROBE_S, [VIP, OTHER])]


def test_nobody_is_asked_twice_while_the_answer_is_awaited(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.01)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)

    bench.play(story)
    assert bench.watch.asked == [[VIP], [OTHER]]


def test_a_later_batch_does_not_wait_for_an_earlier_one(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.1)
        probing.ask([OTHER], ETH0)
        await asyncio.sleep(1)

    bench.play(story)
    assert bench.answers == [(0.15, [VIP]), (0.25, [OTHER])]


def test_an_address_that_somebody_has_is_contested_and_to_be_asked_for_again_when_it_is_over(bench):
    bench.watch.hosts = {VIP: STRANGER}

    async def story(probing):
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert probing.contested(VIP)
        assert not probing.contested(OTHER)
        bench.watch.hosts = {}
        assert not probing.contested(VIP)
        assert probing.unprobed(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)

    bench.play(story)


def test_a_vip_that_had_a_holder_before_is_not_asked_for(bench):
    bench.had = {VIP}
    assert not bench.probing.unprobed(VIP, ETH0)


def test_a_vip_with_a_duplicate_is_asked_for_again_though_it_had_a_holder_and_is_no_first_assignment(bench):
    async def story(probing):
        assert probing.first(VIP)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.had = {OTHER}
        assert not probing.first(OTHER)
        for vip in (VIP, OTHER):
            assert not probing.unprobed(vip, ETH0)
            probing.doubt(vip)
            assert probing.unprobed(vip, ETH0)
            assert not probing.first(vip)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)
        assert not probing.unprobed(OTHER, ETH0)
        assert not probing.first(VIP)
        bench.claimed = set()
        probing.tidy()
        assert probing.first(VIP)

    bench.play(story)


def test_silence_that_proves_nothing_is_no_answer_and_the_question_comes_again_after_a_second(bench):
    bench.watch.failures = [AnnounceError("eth0", "it has no carrier")]

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S + 0.9)
        probing.ask([VIP], ETH0)  # Still waiting: nobody is asked.
        assert bench.answers == []
        await asyncio.sleep(0.2)
        assert probing.unprobed(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)

    bench.play(story)
    assert bench.watch.asked == [[VIP], [VIP]]
    assert [vips for _, vips in bench.answers] == [[VIP], [VIP]]


def test_a_failure_of_one_batch_is_not_anothers(bench):
    bench.watch.failures = [AnnounceError("eth0", "gone")]

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.01)
        probing.ask([OTHER], ETH0)
        await asyncio.sleep(0.5)
        assert probing.unprobed(VIP, ETH0)
        assert not probing.unprobed(OTHER, ETH0)

    bench.play(story)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_nobody_claims_any_more_is_forgotten(bench, at_once):
    async def story(probing):
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        bench.claimed = {OTHER}
        if at_once:
            probing.forget(VIP)
            await asyncio.sleep(RECREATED_S + 0.1)
        else:
            probing.tidy()
            await asyncio.sleep(RECREATED_S + 0.1)
            probing.tidy()
        bench.claimed = {VIP, OTHER}
        assert probing.unprobed(VIP, ETH0)
        assert not probing.unprobed(OTHER, ETH0)

    bench.play(story)


@pytest.mark.parametrize("how", ["found free", "taken over"])
def test_what_is_claimed_again_at_once_is_the_same_assignment(bench, how):
    async def story(probing):
        if how == "found free":
            probing.ask([VIP], ETH0)
            await asyncio.sleep(1)
        else:
            bench.had = {VIP}
        for _ in range(3):
            bench.homes = {VIP: ETH0}
            assert not probing.unprobed(VIP, ETH0)
            bench.claimed, bench.had = set(), set()
            for _ in range(4):
                probing.forget(VIP)
                bench.homes = {}
                await asyncio.sleep(RECREATED_S / 5)
            bench.claimed = {VIP}
            assert not probing.unprobed(VIP, ETH0)

    bench.play(story)


def test_what_was_not_bound_here_when_its_last_claim_went_is_asked_for_however_soon_it_comes_again(bench):
    """Another node may have held it since, and found another host with it."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.homes = {VIP: ETH0}
        assert not probing.unprobed(VIP, ETH0)
        bench.homes, bench.claimed = {}, set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert probing.unprobed(VIP, ETH0)

    bench.play(story)


def test_what_was_in_doubt_when_its_last_claim_went_is_asked_for_however_soon_it_comes_again(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        probing.doubt(VIP)
        bench.claimed = set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert probing.unprobed(VIP, ETH0)

    bench.play(story)


@pytest.mark.parametrize("after_s", [0, 0.05])
def test_a_question_that_was_cut_off_can_be_asked_again(bench, after_s):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(after_s)
        await bench.start_again()
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)

    bench.play(story)
    assert [vips for _, vips in bench.answers] == [[VIP]]


def test_switched_off_nothing_is_asked_and_nothing_is_contested():
    probing = Probing(
        None,
        had=lambda _: False,
        succeeds=lambda _: "kube/1",
        home=lambda _: ETH1,
        claimed=lambda _: True,
        clock=ManualClock(),
        on_answer=lambda _: None,
    )
    assert not probing.unprobed(VIP, ETH0)
    assert not probing.contested(VIP)


def test_g1_after_a_holder_that_was_no_kvip_a_vip_is_asked_for_though_it_was_held(bench):
    async def story(probing):
        bench.had = {VIP}
        assert not probing.unprobed(VIP, ETH0)
        bench.before = {VIP: "kube/1"}
        assert probing.unprobed(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)
        bench.before = {VIP: "kube/3"}
        assert probing.unprobed(VIP, ETH0), "another such holder came in between"

    bench.play(story)


def test_g1_an_answer_counts_for_the_holder_that_was_known_when_it_was_asked(bench):
    async def story(probing):
        bench.before = {VIP: "kube/1"}
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S / 2)
        bench.before = {VIP: "kube/3"}
        await asyncio.sleep(1)
        assert probing.unprobed(VIP, ETH0)

    bench.play(story)


# -- another NIC may be another segment --------------------------------------------------------------------------------


def test_a_vip_that_goes_to_another_nic_is_asked_for_there_though_it_was_held(bench):
    bench.had = {VIP}

    async def story(probing):
        for here, there in ((ETH0, ETH1), (ETH1, ETH0), (ETH0, ETH1)):
            bench.homes = {VIP: here}
            assert not probing.unprobed(VIP, here)
            assert probing.unprobed(VIP, there)
            bench.homes = {}
            assert probing.unprobed(VIP, there), "let go of, and not asked for yet"
            probing.ask([VIP], there)
            await asyncio.sleep(1)
            assert not probing.unprobed(VIP, there)

    bench.play(story)
    assert bench.watch.asked == [[VIP]] * 3


def test_only_what_a_kvip_held_elsewhere_is_in_doubt_and_only_until_nobody_answers(bench):
    async def story(probing):
        assert not probing.in_doubt(VIP, ETH0), "a first assignment is none"
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        assert not probing.unprobed(VIP, ETH0)
        assert probing.unprobed(VIP, ETH1)
        bench.homes = {}
        assert probing.in_doubt(VIP, ETH1)
        probing.ask([VIP], ETH1)
        await asyncio.sleep(1)
        assert not probing.in_doubt(VIP, ETH1)

    bench.play(story)


def test_silence_on_one_nic_says_nothing_of_another(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S / 2)
        assert probing.unprobed(VIP, ETH1)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)
        assert probing.unprobed(VIP, ETH1)

    bench.play(story)


def test_back_on_the_nic_that_it_left_it_is_asked_for_again(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not probing.unprobed(VIP, ETH0)
        bench.watch.hosts = {VIP: STRANGER}
        assert probing.unprobed(VIP, ETH1)
        bench.homes = {}
        probing.ask([VIP], ETH1)
        await asyncio.sleep(1)
        assert probing.unprobed(VIP, ETH1)
        assert probing.unprobed(VIP, ETH0), "meanwhile nobody had it there"

    bench.play(story)


def test_the_same_nic_that_comes_back_is_the_same_segment(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}
    assert not bench.probing.unprobed(VIP, ETH0)
    bench.homes = {}
    assert not bench.probing.unprobed(VIP, msgspec.structs.replace(ETH0, index=IfIndex(9)))


def test_where_it_was_is_forgotten_with_the_last_claim(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}
    assert not bench.probing.unprobed(VIP, ETH0)
    bench.homes, bench.claimed = {}, set()
    bench.probing.tidy()
    bench.clock.advance(RECREATED_S + 0.1)
    bench.probing.tidy()
    bench.claimed = {VIP}
    assert not bench.probing.unprobed(VIP, ETH1), "a take-over from another node"
