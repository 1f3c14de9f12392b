"""pyroute2 on both event loops through the transport, the NICs it reads, and the monitor of changes."""

import asyncio
import errno
import socket

import msgspec
import pytest
import uvloop
from pyroute2.netlink.exceptions import NetlinkError as Pyroute2Error

from kvip.errors import NetlinkError
from kvip.kernel.batches import AddressOp, AddressSocket, vip_address
from kvip.kernel.links import default_route_link, find_link, read_links
from kvip.kernel.monitor import Monitor
from kvip.kernel.transport import LoopIPRoute, ReaderTransport

pytestmark = pytest.mark.netns

LOOPS = [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
both_loops = pytest.mark.parametrize("run", LOOPS)


def add_many(index, number):
    """Add VIPs without an await: no event of them is read meanwhile."""
    vips = [f"10.1.{n // 200}.{n % 200 + 1}" for n in range(number)]
    with AddressSocket() as sock:
        results = sock.apply([AddressOp(kind="add", address=vip_address(vip, index, valid_s=60)) for vip in vips])
    assert {result.errno for result in results} == {0}
    return vips


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


class Recorder:
    """The monitor's callbacks as a queue of events."""

    def __init__(self, **options):
        self.events = asyncio.Queue()
        self.monitor = Monitor(
            on_address=lambda address, present: self.events.put_nowait(("address", address.ip, present)),
            on_link=lambda link, index, present: self.events.put_nowait(("link", link, index, present)),
            on_resync=lambda: self.events.put_nowait(("resync",)),
            **options,
        )

    async def until(self, fits):
        """The next event that fits; those before it are dropped."""
        async with asyncio.timeout(5):
            while True:
                event = await self.events.get()
                if fits(event):
                    return event

    async def following(self, body):
        """Run `body` while the monitor runs; then cancel it and see that it ends at once."""
        task = asyncio.create_task(self.monitor.run())
        try:
            assert await self.until(lambda event: True) == ("resync",)
            await body(self)
        finally:
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=2)
            assert done
            assert task.cancelled()


def follow(run, body, **options):
    async def main():
        await Recorder(**options).following(body)

    run(asyncio.wait_for(main(), 15))


@both_loops
def test_addresses_that_come_and_go_are_reported(run, veth, run_ip):
    async def body(seen):
        for text, length in (("192.0.2.7", 32), ("2001:db8::7", 128)):
            run_ip("addr", "add", f"{text}/{length}", "dev", veth.name)
            await seen.until(lambda event, text=text: event == ("address", text, True))
            run_ip("addr", "del", f"{text}/{length}", "dev", veth.name)
            await seen.until(lambda event, text=text: event == ("address", text, False))

    follow(run, body)


@both_loops
def test_a_nic_down_up_and_with_another_mac_is_reported(run, veth, run_ip):
    def state(index, **wanted):
        def fits(event):
            return event[0] == "link" and event[2] == index and event[3] and all(getattr(event[1], k) == v for k, v in wanted.items())

        return fits

    async def body(seen):
        run_ip("link", "set", veth.peer, "down")
        await seen.until(state(veth.index, up=True, carrier=False))
        run_ip("link", "set", veth.peer, "up")
        await seen.until(state(veth.index, up=True, carrier=True))
        run_ip("link", "set", veth.name, "down")
        await seen.until(state(veth.index, up=False))
        run_ip("link", "set", veth.name, "up", "address", "02:00:00:00:00:42")
        await seen.until(state(veth.index, up=True, carrier=True, mac=bytes.fromhex("020000000042")))

    follow(run, body)


def test_a_nic_that_leaves_a_bridge_is_not_gone_and_a_deleted_one_is(veth, run_ip):
    gone = []

    async def body(seen):
        run_ip("link", "add", "kvbr", "type", "bridge")
        run_ip("link", "set", veth.name, "master", "kvbr")
        run_ip("link", "set", veth.name, "nomaster")
        run_ip("link", "del", "kvbr")
        async with asyncio.timeout(5):
            while not gone:
                event = await seen.events.get()
                gone.extend([event] if event[0] == "link" and not event[3] else [])
        assert gone[0][1] is None
        assert gone[0][2] != veth.index
        run_ip("link", "del", veth.name)
        await seen.until(lambda event: event == ("link", None, veth.index, False))

    follow(asyncio.run, body)


@both_loops
def test_lost_events_lead_to_a_resync_with_a_larger_buffer_and_following_goes_on(run, veth, run_ip):
    async def body(seen):
        # Without an await in between: the monitor cannot read while the kernel queues 300 events.
        with AddressSocket() as sock:
            sock.apply(
                [AddressOp(kind="add", address=vip_address(f"10.1.{n // 200}.{n % 200 + 1}", veth.index, valid_s=60)) for n in range(300)]
            )
        await seen.until(lambda event: event == ("resync",))
        assert seen.monitor.overruns == 1
        run_ip("addr", "add", "192.0.2.7/32", "dev", veth.name)
        await seen.until(lambda event: event == ("address", "192.0.2.7", True))
        assert seen.monitor.overruns == 1

    follow(run, body, receive_buffer=4096)


@both_loops
def test_a_storm_of_events_within_the_buffer_is_followed_completely(run, veth):
    async def body(seen):
        vips = add_many(veth.index, 1000)
        reported = [(await seen.until(lambda event: event[0] == "address"))[1] for _ in vips]
        assert reported == vips
        assert seen.monitor.overruns == 0

    follow(run, body)


@both_loops
def test_cancelling_while_it_waits_to_reopen_ends_it(run, veth):
    async def body(seen):
        add_many(veth.index, 300)
        async with asyncio.timeout(5):
            while not seen.monitor.overruns:  # nothing is called at that moment
                await asyncio.sleep(0)

    follow(run, body, receive_buffer=1)


@both_loops
def test_a_callback_that_fails_ends_the_monitor_with_its_error(run, own_namespace):
    def fail():
        raise RuntimeError("planted")

    async def main():
        monitor = Monitor(on_address=lambda *_: None, on_link=lambda *_: None, on_resync=fail)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(monitor.run())
        assert isinstance(caught.value.exceptions[0], RuntimeError)

    run(asyncio.wait_for(main(), 5))


@both_loops
def test_what_a_socket_reads_back_itself_is_not_reported_and_all_else_is(run, veth, run_ip):
    """Thousands of its own additions would each be decoded to learn what is known."""
    with AddressSocket() as sock:

        def change(kind, vip, **fields):
            address = msgspec.structs.replace(vip_address(vip, veth.index, valid_s=60), **fields)
            (result,) = sock.apply([AddressOp(kind=kind, address=address)])
            assert result.errno == 0

        async def body(seen):
            change("add", "192.0.2.7")
            change("replace", "192.0.2.7")
            change("add", "2001:db8::7")
            assert await seen.until(lambda _: True) == ("address", "2001:db8::7", True), "IPv6 is no answer to anybody"
            change("delete", "192.0.2.7")
            assert await seen.until(lambda _: True) == ("address", "192.0.2.7", False)
            change("add", "192.0.2.8", prefix_len=24)
            assert await seen.until(lambda _: True) == ("address", "192.0.2.8", True)
            run_ip("addr", "add", "192.0.2.9/32", "dev", veth.name)
            assert await seen.until(lambda _: True) == ("address", "192.0.2.9", True)
            run_ip("link", "set", veth.name, "down")
            event = await seen.until(lambda _: True)
            assert event[0] == "link"

        follow(run, body, answered=sock.port)
