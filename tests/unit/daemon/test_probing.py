"""Asking the segment before a first bind: once for many, again after a failure, and forgotten with the last claim."""

import asyncio

import msgspec
import pytest

from kvip.clock import ManualClock
from kvip.core.model import IfIndex
from kvip.daemon.conflicts import BRIEF_S
from kvip.daemon.probing import RECREATED_S, SILENCE_S, Probing
from kvip.errors import AnnounceError
from tests.unit.daemon.conflict_bench import ClockLoop
from tests.unit.daemon.fake_ports import ETH0, ETH1, OTHER, THIRD, VIP

STRANGER = b"\2\0\0\0\0\x99"
PROBE_S = 0.15


class Watch:
    """The side of `ConflictWatch` that is asked: hosts answer for their addresses, and the NIC may refuse."""

    def __init__(self):
        self.asked = []
        self.brief = []
        self.hosts = {}
        self.failures = []
        self.contested = set()

    async def probe(self, vips, link, *, brief=False):
        self.asked.append(list(vips))
        self.brief.append(brief)
        await asyncio.sleep(BRIEF_S if brief else PROBE_S)
        if self.failures:
            raise self.failures.pop(0)
        return {vip: mac for vip, mac in self.hosts.items() if vip in vips}

    def may_bind(self, vip):
        return vip not in self.hosts and vip not in self.contested

    def forget(self, vip):
        self.contested.discard(vip)


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

    def asks(self, vip, link):
        """As a turn does."""
        self.probing.look(vip, link)
        return self.probing.unprobed(vip, link)

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
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)
        assert bench.asks(THIRD, ETH0)

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
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)

    bench.play(story)


def test_the_next_service_that_asks_for_it_does_not_wait_for_a_host_that_had_it_once(bench):
    bench.watch.contested = {VIP}
    assert bench.probing.contested(VIP)
    bench.probing.forget(VIP)
    assert not bench.probing.contested(VIP)
    assert bench.probing.unprobed(VIP, ETH0)


def test_a_vip_that_had_a_holder_before_is_not_asked_for(bench):
    bench.had = {VIP}
    assert not bench.asks(VIP, ETH0)


def test_a_vip_with_a_duplicate_is_asked_for_again_though_it_had_a_holder_and_is_no_first_assignment(bench):
    async def story(probing):
        assert probing.first(VIP)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.had = {OTHER}
        assert not probing.first(OTHER)
        for vip in (VIP, OTHER):
            assert not bench.asks(vip, ETH0)
            probing.doubt(vip)
            assert bench.asks(vip, ETH0)
            assert not probing.first(vip)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)
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
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)

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
        assert bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)

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
        assert bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)

    bench.play(story)


@pytest.mark.parametrize("how", ["found free", "taken over"])
def test_what_left_a_moment_ago_is_asked_for_briefly(bench, how):
    """Another host may have been given the address as its Service went."""

    async def story(probing):
        if how == "found free":
            probing.ask([VIP], ETH0)
            await asyncio.sleep(1)
        else:
            bench.had = {VIP}
        bench.watch.brief.clear()
        for _ in range(3):
            bench.homes = {VIP: ETH0}
            assert not bench.asks(VIP, ETH0)
            bench.claimed, bench.had = set(), set()
            for _ in range(4):
                probing.forget(VIP)
                bench.homes = {}
                await asyncio.sleep(RECREATED_S / 5)
            bench.claimed = {VIP}
            assert bench.asks(VIP, ETH0)
            probing.ask([VIP], ETH0)
            await asyncio.sleep(BRIEF_S + 0.01)
            assert not bench.asks(VIP, ETH0)
        bench.homes = {VIP: ETH0}
        probing.look(VIP, ETH0)
        bench.homes = {}
        probing.left(VIP)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(BRIEF_S + 0.01)

    bench.play(story)
    assert bench.watch.brief == [True] * 4 + [False]
    assert bench.watch.asked[-2:] == [[VIP], [OTHER]]


def test_what_nobody_asks_for_and_is_bound_still_when_it_is_claimed_again_is_not_asked_for(bench):
    async def story(probing):
        await bound_for_an_hour(bench)(probing)
        bench.claimed, bench.had = set(), set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert not bench.asks(VIP, ETH0)

    bench.play(story)


def test_what_was_not_bound_here_when_its_last_claim_went_is_asked_for_however_soon_it_comes_again(bench):
    """Another node may have held it since, and found another host with it."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.homes = {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        bench.homes, bench.claimed = {}, set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert bench.asks(VIP, ETH0)

    bench.play(story)


def test_what_was_in_doubt_when_its_last_claim_went_is_asked_for_however_soon_it_comes_again(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        probing.doubt(VIP)
        bench.claimed = set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert bench.asks(VIP, ETH0)

    bench.play(story)


@pytest.mark.parametrize("after_s", [0, 0.05])
def test_a_question_that_was_cut_off_can_be_asked_again(bench, after_s):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(after_s)
        await bench.start_again()
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)

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
        assert not bench.asks(VIP, ETH0)
        bench.before = {VIP: "kube/1"}
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        bench.before = {VIP: "kube/3"}
        assert bench.asks(VIP, ETH0), "another such holder came in between"

    bench.play(story)


def test_g1_an_answer_counts_for_the_holder_that_was_known_when_it_was_asked(bench):
    async def story(probing):
        bench.before = {VIP: "kube/1"}
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S / 2)
        bench.before = {VIP: "kube/3"}
        await asyncio.sleep(1)
        assert bench.asks(VIP, ETH0)

    bench.play(story)


# -- another NIC may be another segment --------------------------------------------------------------------------------


def test_a_vip_that_goes_to_another_nic_is_asked_for_there_though_it_was_held(bench):
    bench.had = {VIP}

    async def story(probing):
        for here, there in ((ETH0, ETH1), (ETH1, ETH0), (ETH0, ETH1)):
            bench.homes = {VIP: here}
            assert not bench.asks(VIP, here)
            assert bench.asks(VIP, there)
            bench.homes = {}
            assert bench.asks(VIP, there), "let go of, and not asked for yet"
            probing.ask([VIP], there)
            await asyncio.sleep(1)
            assert not bench.asks(VIP, there)

    bench.play(story)
    assert bench.watch.asked == [[VIP]] * 3


def test_only_what_a_kvip_held_elsewhere_is_in_doubt_and_only_until_nobody_answers(bench):
    async def story(probing):
        assert not probing.in_doubt(VIP, ETH0), "a first assignment is none"
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        assert bench.asks(VIP, ETH1)
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
        assert bench.asks(VIP, ETH1)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        assert bench.asks(VIP, ETH1)

    bench.play(story)


def test_back_on_the_nic_that_it_left_it_is_asked_for_again(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        bench.watch.hosts = {VIP: STRANGER}
        assert bench.asks(VIP, ETH1)
        bench.homes = {}
        probing.ask([VIP], ETH1)
        await asyncio.sleep(1)
        assert bench.asks(VIP, ETH1)
        assert bench.asks(VIP, ETH0), "meanwhile nobody had it there"

    bench.play(story)


def test_the_same_nic_that_comes_back_is_the_same_segment(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}
    assert not bench.asks(VIP, ETH0)
    bench.homes = {}
    assert not bench.asks(VIP, msgspec.structs.replace(ETH0, index=IfIndex(9)))


def test_where_it_was_is_forgotten_with_the_last_claim(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}
    assert not bench.asks(VIP, ETH0)
    bench.homes, bench.claimed = {}, set()
    bench.probing.tidy()
    bench.clock.advance(RECREATED_S + 0.1)
    bench.probing.tidy()
    bench.claimed = {VIP}
    assert not bench.asks(VIP, ETH1), "a take-over from another node"


# -- for how long silence counts -----------------------------------------------------------------------------------------


def test_silence_counts_for_the_bind_that_follows_and_not_for_one_of_later(bench):
    """Its firewall rules cannot be had for an hour, say: another host may have come."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S + SILENCE_S - 0.1)
        assert not bench.asks(VIP, ETH0)
        await asyncio.sleep(0.2)
        assert bench.asks(VIP, ETH0)

    bench.play(story)


def bound_for_an_hour(bench):
    """It was found free, was bound here, and its claim says so."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        await asyncio.sleep(3600)

    return story


def test_what_was_removed_by_somebody_else_is_put_back_without_asking(bench):
    """Nothing tells of it by then in modes in which nothing is written: asked for briefly."""

    async def story(probing):
        await bound_for_an_hour(bench)(probing)
        bench.homes = {}
        assert not bench.asks(VIP, ETH0)
        bench.had = set()
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.001)
        assert bench.watch.brief[-1:] == [True]

    bench.play(story)


@pytest.mark.parametrize("how", ["let go of", "fenced"])
def test_once_it_left_the_claim_tells_whether_it_is_asked_for(bench, how):
    async def story(probing):
        await bound_for_an_hour(bench)(probing)
        if how == "let go of":
            probing.left(VIP)
            bench.homes = {}
        else:
            bench.homes = {}
            probing.look(VIP, ETH0)
        await asyncio.sleep(RECREATED_S + 0.1)
        assert not bench.asks(VIP, ETH0), "a take-over from a kvip that had it bound"
        bench.had = set()
        assert bench.asks(VIP, ETH0), "since then nobody of kvip is known to have had it bound"

    bench.play(story)


def test_a_doubt_is_over_once_nobody_answered_and_it_was_bound_again(bench):
    async def story(probing):
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        probing.doubt(VIP)
        assert bench.asks(VIP, ETH0), "still bound, by an address that the kernel does not use"
        bench.homes = {}
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.homes = {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        probing.left(VIP)
        bench.homes = {}
        await asyncio.sleep(3600)
        assert not bench.asks(VIP, ETH0), "a take-over from a kvip that had it bound"

    bench.play(story)


def test_what_was_bound_here_unasked_after_a_holder_that_was_no_kvip_counts_for_nothing(bench):
    """A former daemon's address, say."""

    async def story(probing):
        bench.had, bench.homes, bench.before = {VIP}, {VIP: ETH0}, {VIP: "kube/1"}
        assert bench.asks(VIP, ETH0)
        bench.homes = {}
        assert bench.asks(VIP, ETH0)

    bench.play(story)


def test_a_question_changes_nothing(bench):
    async def story(probing):
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        probing.look(VIP, ETH0)
        for link in (ETH1, ETH0, ETH1):
            probing.unprobed(VIP, link)
            probing.in_doubt(VIP, link)
        assert not probing.in_doubt(VIP, ETH1)
        assert probing.first(OTHER)
        bench.claimed, bench.homes = set(), {VIP: ETH0}
        probing.forget(VIP)
        bench.claimed, bench.homes, bench.had = {VIP}, {}, set()
        await asyncio.sleep(RECREATED_S + 0.1)
        probing.unprobed(VIP, ETH0)
        assert vars(probing)["_over"], "forgotten by a look, not by a question"

    bench.play(story)
