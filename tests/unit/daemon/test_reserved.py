"""Addresses that no VIP may equal though no object names them: kept while they cannot be read, told when they change."""

import asyncio
import errno

import pytest

from kvip.clock import ManualClock
from kvip.daemon import reserved
from kvip.daemon.reserved import PERIOD_S, Reserved
from kvip.errors import ApiError, NetlinkError
from tests.unit.clock_loop import play

UNRESOLVED = ApiError("resolve", "https://api.example", status=0, reason="gaierror")


class World:
    """The kernel's routes and the name service; an exception in place of a set is raised."""

    def __init__(self):
        self.clock = ManualClock()
        self.gateways = {"192.0.2.1"}
        self.servers = frozenset({"192.0.2.10"})
        self.asked = []
        self.changes = []
        self.reserved = Reserved("https://api.example", on_changed=lambda: self.changes.append(self.clock.now() - 1000.0))

    async def default_gateways(self):
        if isinstance(self.gateways, Exception):
            raise self.gateways
        return set(self.gateways)

    async def server_addresses(self, host):
        self.asked.append((self.clock.now() - 1000.0, host))
        if isinstance(self.servers, Exception):
            raise self.servers
        return self.servers

    def play(self, story):
        async def begun():
            await asyncio.sleep(1)
            await story()

        play(self.clock, self.reserved.run, begun)


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(reserved, "default_gateways", world.default_gateways)
    monkeypatch.setattr(reserved, "server_addresses", world.server_addresses)
    return world


async def test_both_sets_are_read(world):
    await world.reserved.read()
    assert (world.reserved.gateways, world.reserved.api_servers) == ({"192.0.2.1"}, {"192.0.2.10"})
    assert world.asked == [(0.0, "https://api.example")]


@pytest.mark.parametrize("problem", [NetlinkError(errno.ENOBUFS, "dump", "routes"), OSError(errno.EIO, "no"), TimeoutError()])
async def test_i5_gateways_that_cannot_be_read_stay_and_the_servers_are_read_nevertheless(world, problem):
    await world.reserved.read()
    world.gateways, world.servers = problem, frozenset({"192.0.2.11"})
    await world.reserved.read()
    assert (world.reserved.gateways, world.reserved.api_servers) == ({"192.0.2.1"}, {"192.0.2.11"})


async def test_i5_a_name_that_cannot_be_resolved_keeps_the_servers(world):
    await world.reserved.read()
    world.gateways, world.servers = {"192.0.2.2"}, UNRESOLVED
    await world.reserved.read()
    assert (world.reserved.gateways, world.reserved.api_servers) == ({"192.0.2.2"}, {"192.0.2.10"})


async def test_a_route_that_is_gone_frees_its_address(world):
    await world.reserved.read()
    world.gateways = set()
    await world.reserved.read()
    assert world.reserved.gateways == frozenset()


def test_they_are_read_each_minute_and_only_a_change_is_told(world):
    async def story():
        assert world.changes == [0.0]
        await asyncio.sleep(5 * PERIOD_S)
        assert len(world.asked) == 6
        assert world.changes == [0.0]
        world.gateways = {"192.0.2.3"}
        await asyncio.sleep(PERIOD_S)
        assert len(world.changes) == 2
        world.gateways = NetlinkError(errno.ENOBUFS, "dump", "routes")
        await asyncio.sleep(PERIOD_S)
        assert len(world.changes) == 2

    world.play(story)
