"""Binding on another thread, with the real kernel: what becomes of each, and what comes after it while it is under way."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvip.clock import SystemClock
from kvip.core.facts import Facts
from kvip.core.model import Link, Vip
from kvip.daemon.binding import TAKE_SLICE, Binding
from kvip.kernel.batches import AddressSocket
from tests.netns.both_loops import both_loops

pytestmark = pytest.mark.netns

VIPS = [Vip(f"10.1.0.{n}") for n in range(1, TAKE_SLICE + 1)]
ROUNDS = 20


@pytest.fixture
def facts():
    return Facts()


@pytest.fixture
def binding(own_namespace, facts):
    with AddressSocket() as addresses, ThreadPoolExecutor(max_workers=1) as beside:
        yield Binding(addresses, facts, clock=SystemClock(), lifetime_s=lambda: 60, beside=beside)


@pytest.fixture
def targets(veth):
    link = Link(index=veth.index, name=veth.name, mac=bytes.fromhex("020000000001"), up=True, carrier=True)
    return [(vip, link) for vip in VIPS]


@both_loops
def test_each_is_confirmed_or_refused_as_on_the_loop(run, binding, facts, targets, veth, run_ip):
    run_ip("addr", "add", f"{VIPS[3]}/32", "dev", veth.name)

    async def story():
        return await binding.add(targets)

    problems = {result.operation.address.ip: problem for result, problem in run(story())}
    assert {vip for vip, problem in problems.items() if problem} == {VIPS[3]}
    assert set(facts.marked()) == {*VIPS} - {VIPS[3]}
    assert [address.ip for address in facts.unmarked()] == [VIPS[3]]
    assert {address.ip for address in binding.dump() if address.marked} == set(facts.marked())


@both_loops
def test_r2_a_removal_while_it_is_under_way_leaves_none(run, binding, facts, targets):
    async def story():
        for turn in range(ROUNDS):
            adding = asyncio.create_task(binding.add(targets))
            for _ in range(1 + turn % 4):
                await asyncio.sleep(0)
            found, complete = binding.marked()
            assert complete
            assert binding.remove(found) == [""] * len(VIPS)
            assert facts.marked() == ()
            assert {problem for _, problem in await adding} == {""}
            assert facts.marked() == ()
            assert not any(address.marked for address in binding.dump())

    run(story())
