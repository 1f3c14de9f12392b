"""What is gathered for readers is what the rooms of the daemon decided, and gathering costs the event loop little."""

import asyncio
import json
import os
import time

import aiohttp
import msgspec
from aiohttp import web

from kvip.cli import daemon_view
from kvip.daemon import inquiry, viewing
from kvip.daemon.lag import LoopLag
from kvip.daemon.viewing import Views, state_of
from kvip.observe import page, readers
from kvip.observe.http import running
from kvip.observe.state import StateView
from tests.unit.daemon.fake_ports import OTHER, THIRD, VIP, WEB, endpoints, service, unmarked
from tests.unit.daemon.house import House
from tests.unit.daemon.viewed import parts_of

YOUNG = "default/young"


def explained(parts, key=WEB):
    return json.loads(Views(parts).explanation(key))


def test_a_vip_that_the_rooms_took_is_announced_in_the_view():
    house = House()

    async def story():
        house.apply(service(VIP, shows=[VIP]))
        await asyncio.sleep(0.1)
        house.outcome.announced(VIP, house.clock.now())
        parts = parts_of(house)
        (row,) = state_of(parts).vips
        assert (row.vip, row.state, row.nic, row.node, row.rounds) == (VIP, "announced", "eth0", "n1", 3)
        assert row.since == row.announced_since != ""
        told = explained(parts)
        assert told["works"], told
        assert told["cause"] == f"none, it works ({VIP} by n1)"

    house.play(story)


def test_what_the_rooms_refuse_is_in_the_view_and_explained():
    house = House()
    house.elector.permits = False
    house.read(
        service(VIP),
        service(VIP, key=YOUNG, uid="uid-2"),
        service("x", key="default/typo", uid="uid-3"),
        service(OTHER, key="default/local", uid="uid-4", local=True),
        service(THIRD, key="default/cluster", uid="uid-5", kind="ClusterIP"),
    )
    house.desire.read(list(house.services.store))
    parts = parts_of(house)
    assert {(row.vip, row.state) for row in state_of(parts).vips} == {(VIP, "pending"), (OTHER, "pending"), ("x", "invalid")}
    assert explained(parts, "default/local")["cause"] == f"{OTHER}: externalTrafficPolicy is Local, and it has no endpoints"
    assert "is not an IP address" in explained(parts, "default/typo")["cause"]
    assert explained(parts, "default/cluster")["cause"] == "its type is ClusterIP, not LoadBalancer"
    assert explained(parts, "default/none")["cause"] == "there is no Service of this name"


def test_a_local_service_says_which_nodes_may():
    house = House()
    house.elector.held_elsewhere = {VIP}
    house.slices.store["default/s"] = endpoints("s", "n2")
    house.desire.whereabouts.slice_changed("default/s")
    house.read(service(VIP, local=True, shows=[VIP]))
    house.elector.permits = False
    told = explained(parts_of(house))
    assert told["works"]
    assert next(step["answer"] for step in told["steps"] if step["question"].startswith("Which nodes")) == "n2; n1 may not"


def test_an_address_without_the_mark_is_refused_as_the_rooms_refuse_it():
    house = House()
    house.know(unmarked(VIP, prefix=32))
    house.desire.surroundings_changed()
    house.read(service(VIP))
    assert "is an address of this node that kvip did not add" in explained(parts_of(house))["cause"]


def test_the_kernel_s_own_words_are_told():
    house = House()

    async def story():
        house.kernel.refuse = {VIP: 105}
        house.apply(service(VIP))
        await asyncio.sleep(0.1)
        assert explained(parts_of(house))["cause"].startswith(f"{VIP}: the kernel of n1 does not bind it: ")

    house.play(story)


def test_asking_changes_nothing():
    house = House()
    house.elector.permits = False
    house.read(service(VIP), service("x", key="default/typo", uid="uid-3"))
    before = (list(house.log), list(house.events.posted), list(house.status.written), set(house.ledger.vips()))
    parts = parts_of(house)
    state_of(parts)
    explained(parts)
    explained(parts, "default/none")
    assert before == (list(house.log), list(house.events.posted), list(house.status.written), set(house.ledger.vips()))


async def test_a_document_is_made_in_slices_and_given_to_all_who_ask_meanwhile(monkeypatch):
    house = House()
    house.elector.permits = False
    house.read(*(service(f"192.0.2.{number}", key=f"default/s{number}", uid=f"uid-{number}") for number in range(10, 200)))
    gathered = []
    row_of = inquiry.row_of
    monkeypatch.setattr(inquiry, "row_of", lambda parts, vip, *rest, **more: gathered.append(vip) or row_of(parts, vip, *rest, **more))
    parts = parts_of(house)
    views = Views(parts)
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    documents = await asyncio.gather(*(views.state() for _ in range(20)))
    beside.cancel()
    assert len(set(documents)) == 1
    assert len(json.loads(documents[0])["vips"]) == len(gathered) == 190
    assert turns >= 190 // viewing.SLICE
    house.clock.advance(3600)
    assert await views.state() == msgspec.json.encode(state_of(parts))
    assert len(gathered) == 3 * 190


async def test_the_lag_is_the_longest_delay_of_a_timer(monkeypatch):
    monkeypatch.setattr("kvip.daemon.lag.PERIOD_S", 0.01)
    lag = LoopLag()
    assert lag.longest_s == 0
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0.05)
    time.sleep(0.1)  # noqa: ASYNC251
    await asyncio.sleep(0.02)
    task.cancel()
    assert 0.08 <= lag.longest_s < 5


# -- the page shows the same -------------------------------------------------------------------------------------------


async def test_the_page_and_the_socket_give_the_same_document(tmp_path):
    house = House()
    house.elector.permits = False
    house.read(service(VIP), service("x", key="default/typo", uid="uid-3"))
    views = Views(parts_of(house))
    path = str(tmp_path / "kvip.sock")
    reading = asyncio.create_task(readers.serve(path, state=views.state, explanation=views.explanation))
    async with running(page.pages(views.state, loopback_only=True)) as runner:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession() as session, session.get(f"{site.name}/status.json") as response:
            shown = await response.read()
    async with asyncio.timeout(5):
        while not os.path.exists(path):  # noqa: ASYNC240
            await asyncio.sleep(0.01)
    told = await asyncio.to_thread(daemon_view.ask, path, "/state")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert shown == told
    assert {row.vip for row in msgspec.json.decode(shown, type=StateView).vips} == {VIP, "x"}


def test_why_this_node_holds_nothing_is_in_the_head():
    house = House()
    parts = parts_of(house)
    assert state_of(parts).daemon.unready == ""
    house.elector.observed = False
    assert "the API server does not answer" in state_of(parts).daemon.unready


def test_what_happened_is_in_the_view():
    house = House()
    house.read(service(VIP))
    house.outcome.announced(VIP, house.clock.now())
    (change,) = state_of(parts_of(house)).changes
    assert (change.change, change.vips, change.services, change.more) == ("announced", (VIP,), (WEB,), 0)
    assert change.at == change.until == "2026-01-01T00:00:00.000Z"
