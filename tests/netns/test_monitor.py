"""The monitor of changes to addresses and NICs, on both event loops."""

import asyncio

import msgspec
import pytest

from kvip.kernel.batches import AddressOp, AddressSocket, vip_address
from kvip.kernel.monitor import Monitor
from tests.netns.both_loops import add_many, both_loops

pytestmark = pytest.mark.netns


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

        async def next_address(seen):
            return (await seen.until(lambda event: event[0] == "address"))[1:]  # the NICs of a new pair may still be coming up

        async def body(seen):
            change("add", "192.0.2.7")
            change("replace", "192.0.2.7")
            change("add", "2001:db8::7")
            assert await next_address(seen) == ("2001:db8::7", True), "IPv6 is no answer to anybody"
            change("delete", "192.0.2.7")
            assert await next_address(seen) == ("192.0.2.7", False)
            change("add", "192.0.2.8", prefix_len=24)
            assert await next_address(seen) == ("192.0.2.8", True)
            run_ip("addr", "add", "192.0.2.9/32", "dev", veth.name)
            assert await next_address(seen) == ("192.0.2.9", True)
            run_ip("link", "set", veth.name, "down")
            await seen.until(lambda event: event[0] == "link" and event[2] == veth.index and not event[1].up)

        follow(run, body, answered=sock.port)
