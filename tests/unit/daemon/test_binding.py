"""What the kernel refuses is counted by operation; what it confirms is not."""

import errno

import pytest

from kvip import metrics
from kvip.clock import ManualClock
from kvip.core.facts import Facts
from kvip.daemon.binding import Binding
from kvip.errors import NetlinkError
from tests.unit.daemon.executor_bench import Kernel
from tests.unit.daemon.fake_ports import ETH0, VIP, marked


@pytest.fixture
def kernel():
    return Kernel([])


@pytest.fixture
def binding(kernel):
    return Binding(kernel, Facts(), clock=ManualClock(), lifetime_s=lambda: 60)


def refused(operation):
    return metrics.netlink_errors_total.labels(operation)._value.get()


async def test_a_confirmed_change_is_no_error(kernel, binding):
    before = {operation: refused(operation) for operation in ("add", "replace", "delete", "dump")}
    await binding.add([(VIP, ETH0)])
    binding.renew([(VIP, ETH0)])
    binding.remove([marked(VIP)])
    binding.marked()
    assert {operation: refused(operation) for operation in before} == before


async def test_a_refused_bind_is_counted(kernel, binding):
    kernel.refuse[VIP] = errno.EPERM
    before = refused("add"), refused("replace")
    assert (await binding.add([(VIP, ETH0)]))[0][1]
    assert binding.renew([(VIP, ETH0)])[0][1]
    assert (refused("add"), refused("replace")) == (before[0] + 1, before[1] + 1)


def test_a_refused_delete_is_counted_and_one_of_what_is_gone_already_is_not(kernel, binding):
    before = refused("delete")
    assert binding.remove([marked(VIP)]) == [""]
    assert refused("delete") == before
    kernel.put(marked(VIP))
    kernel.refuse[VIP] = errno.EBUSY
    binding.remove([marked(VIP)])
    assert refused("delete") == before + 1


async def test_a_request_that_fails_as_a_whole_is_counted_once_per_address(kernel, binding):
    kernel.broken = NetlinkError(errno.ENOBUFS, "send", "addresses")
    before = refused("add")
    await binding.add([(VIP, ETH0)])
    assert refused("add") == before + 1


def test_a_dump_that_fails_at_a_fence_is_counted(kernel, binding):
    kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "all addresses")
    before = refused("dump")
    assert binding.marked() == ([], False)
    assert refused("dump") == before + 1
