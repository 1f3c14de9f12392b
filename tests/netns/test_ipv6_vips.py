"""What kvip relies on in the kernel for IPv6 VIPs: groups joined, duplicate address detection, and who is a router."""

import asyncio
import socket
import time

import pytest

from kvip.core.diff import DADFAILED, TENTATIVE
from kvip.core.model import MARK_PROTO, Vip
from kvip.kernel.batches import AddressOp, AddressSocket, vip_address
from kvip.kernel.host import forwards_ipv6
from kvip.kernel.monitor import Monitor
from lab.netns import NetNamespace
from tests.netns.conflict_segment import Segment

pytestmark = pytest.mark.netns

VIP6 = Vip("2001:db8::ab:cdef")


@pytest.fixture
def sock(own_namespace):
    with AddressSocket() as opened:
        yield opened


@pytest.fixture
def segment(own_namespace, run_ip):
    space = NetNamespace.create("kv-dad")
    try:
        built = Segment(run_ip, space)
        NetNamespace.current("here").sysctl(
            {"ipv6/conf/all/accept_dad": "1", f"ipv6/conf/{built.name}/accept_dad": "1", f"ipv6/conf/{built.name}/dad_transmits": "1"}
        )
        yield built
        run_ip("link", "del", built.name)
    finally:
        space.close()


def apply(sock, kind, index, *, valid_s=60, dad=False):
    (result,) = sock.apply([AddressOp(kind=kind, address=vip_address(VIP6, index, valid_s=valid_s, dad=dad))])
    assert result.errno == 0
    return result


def groups(nic):
    """The IPv6 groups that the kernel has joined on this NIC."""
    with open("/proc/net/igmp6", encoding="ascii") as file:
        entries = [line.split() for line in file]
    return {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(entry[2])) for entry in entries if entry[1] == nic}


def seen(sock):
    return next((address for address in sock.dump() if address.ip == VIP6), None)


def until(check, *, timeout_s):
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def test_the_solicited_node_group_is_joined_with_the_address_and_left_with_it(sock, veth):
    group = "ff02::1:ffab:cdef"
    assert group not in groups(veth.name)
    apply(sock, "add", veth.index)
    # net/ipv6/addrconf.c, addrconf_dad_start: the join is work of a queue (addrconf_dad_work), done after netlink's answer.
    until(lambda: group in groups(veth.name), timeout_s=1)
    apply(sock, "delete", veth.index)
    assert group not in groups(veth.name)


def test_without_dad_an_address_is_usable_at_once_and_with_it_after_a_while(sock, segment):
    assert not apply(sock, "add", segment.link.index).seen.flags & TENTATIVE
    apply(sock, "delete", segment.link.index)
    assert apply(sock, "add", segment.link.index, dad=True).seen.flags & TENTATIVE
    until(lambda: not seen(sock).flags & TENTATIVE, timeout_s=5)
    assert seen(sock).proto == MARK_PROTO


@pytest.mark.parametrize("valid_s", [60, None])
async def test_a_duplicate_is_told_by_the_monitor_whether_the_kernel_removes_the_address_or_keeps_it(sock, segment, valid_s):
    segment.foreign_has(VIP6)
    told = []
    monitor = Monitor(on_address=lambda address, present: told.append((address, present)), on_link=lambda *_: None, on_resync=lambda: None)
    task = asyncio.create_task(monitor.run())
    try:
        await asyncio.sleep(0.1)
        apply(sock, "add", segment.link.index, valid_s=valid_s, dad=True)
        failed = []
        async with asyncio.timeout(5):
            while not failed:
                await asyncio.sleep(0.02)
                failed = [(address.marked, present) for address, present in told if address.ip == VIP6 and address.flags & DADFAILED]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert failed[0] == (True, valid_s is None)
    assert (seen(sock) is not None) == (valid_s is None)


def test_a_router_is_who_forwards_on_the_nic(veth):
    here = NetNamespace.current("here")
    assert not forwards_ipv6(veth.name)
    here.sysctl({f"ipv6/conf/{veth.name}/forwarding": "1"})
    assert forwards_ipv6(veth.name)
    assert not forwards_ipv6("no-such-nic")
