"""pyroute2 on both event loops through the transport, and the NICs it reads."""

import asyncio
import errno
import socket

import pytest
import uvloop
from pyroute2.netlink.exceptions import NetlinkError as Pyroute2Error

from kvip.errors import NetlinkError
from kvip.kernel.links import default_route_link, find_link, read_links
from kvip.kernel.transport import LoopIPRoute, ReaderTransport
from tests.netns.both_loops import add_many, both_loops

pytestmark = pytest.mark.netns


@both_loops
def test_pyroute2_dumps_changes_and_reports_errors_on_this_loop(run, veth):
    async def body():
        async with LoopIPRoute(ext_ack=True, strict_check=True) as ipr:
            assert isinstance(asyncio.get_running_loop(), uvloop.Loop) == (run is uvloop.run)
            await ipr.addr("add", index=veth.index, address="192.0.2.9", prefixlen=32)
            seen = [m.get_attr("IFA_LOCAL") async for m in await ipr.addr("dump", family=socket.AF_INET, index=veth.index)]
            assert seen == ["192.0.2.9"]
            many = await asyncio.gather(*(read_links(ipr) for _ in range(8)))
            assert all(links == many[0] for links in many)
            with pytest.raises(Exception, match="ssigned") as caught:
                await ipr.addr("add", index=veth.index, address="192.0.2.9", prefixlen=32)
            assert caught.value.code == errno.EEXIST
        with pytest.raises((OSError, AttributeError)):
            await ipr.link("get", index=veth.index)

    run(asyncio.wait_for(body(), 10))


@both_loops
def test_an_overrun_of_a_request_socket_is_an_error_of_ours_and_a_new_one_works(run, veth, run_ip):
    async def exhaust(ipr):
        while True:
            async for _ in ipr.get():
                pass

    async def body():
        async with LoopIPRoute(ext_ack=True, strict_check=True, rcvbuf=1) as ipr:
            await ipr.bind()
            add_many(veth.index, 200)
            with pytest.raises((OSError, Pyroute2Error)):
                await asyncio.wait_for(exhaust(ipr), 2)
            with pytest.raises(NetlinkError) as caught:
                await read_links(ipr)
            assert caught.value.errno == errno.ENOBUFS
        async with LoopIPRoute(ext_ack=True, strict_check=True) as ipr:
            assert find_link(await read_links(ipr), veth.name)

    run(asyncio.wait_for(body(), 10))


def test_closing_the_transport_leaves_no_reader_behind(own_namespace):
    async def body():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right:
            transport = ReaderTransport(loop, left, None)
            transport.abort()
            transport.close()
            assert transport.is_closing()
            assert not loop.remove_reader(left.fileno())

    asyncio.run(body())


@both_loops
def test_links_have_name_state_mac_mtu_and_kind(run, veth, run_ip):
    run_ip("link", "add", "kvbr", "type", "bridge")
    run_ip("link", "set", veth.name, "address", "02:00:00:00:00:07", "mtu", "1400", "master", "kvbr")
    run_ip("link", "set", veth.peer, "down")

    async def body():
        async with LoopIPRoute(ext_ack=True, strict_check=True) as ipr:
            return await read_links(ipr)

    try:
        links = run(asyncio.wait_for(body(), 10))
    finally:
        run_ip("link", "del", "kvbr")
    ours, peer, lo = (find_link(links, name) for name in (veth.name, veth.peer, "lo"))
    bridge = find_link(links, "kvbr")
    assert (ours.index, ours.mac, ours.mtu, ours.kind) == (veth.index, bytes.fromhex("020000000007"), 1400, "veth")
    assert (ours.up, ours.carrier, ours.master, ours.arp_type) == (True, False, bridge.index, 1)
    assert (peer.up, peer.master, bridge.kind, lo.arp_type) == (False, None, "bridge", 772)
    assert find_link(links, "nosuch") is None
    assert [link.index for link in links] == sorted(link.index for link in links)


def test_the_default_routes_nic_is_the_one_of_the_lowest_metric_ipv4_first(veth, run_ip):
    async def body():
        async with LoopIPRoute(ext_ack=True, strict_check=True) as ipr:
            return await default_route_link(ipr)

    def found():
        return asyncio.run(asyncio.wait_for(body(), 10))

    assert found() is None
    run_ip("-6", "route", "add", "unreachable", "default", "metric", "1")
    run_ip("-4", "route", "add", "blackhole", "default", "metric", "1")
    assert found() is None
    run_ip("-6", "route", "add", "default", "dev", veth.peer)
    assert found() == veth.peer
    run_ip("-4", "route", "add", "default", "dev", veth.peer, "metric", "200")
    run_ip("-4", "route", "add", "default", "dev", veth.name, "metric", "100")
    run_ip("-4", "route", "add", "default", "dev", veth.peer, "table", "77")
    run_ip("-4", "route", "add", "10.0.0.0/8", "dev", veth.peer, "metric", "1")
    try:
        assert found() == veth.name
    finally:
        run_ip("-6", "route", "del", "unreachable", "default", "metric", "1")
        run_ip("-4", "route", "del", "blackhole", "default", "metric", "1")
