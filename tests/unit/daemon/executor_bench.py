"""The executor over a fake kernel and a fake switch, with a log of what was done."""

import errno

from kvip.clock import ManualClock
from kvip.core.diff import LetGo, Take
from kvip.core.facts import Facts
from kvip.core.model import Address, IfIndex, Link, Vip
from kvip.daemon.binding import SLICE, Binding
from kvip.daemon.executor import Executor
from kvip.daemon.guard import Guard
from kvip.errors import SwitchError
from kvip.kernel.batches import OpResult, vip_address
from kvip.kernel.switch import Expired

LINK = Link(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\1", up=True, carrier=True)
VIP, SECOND, THIRD = Vip("192.0.2.7"), Vip("192.0.2.8"), Vip("192.0.2.9")


def many(count):
    return [Vip(f"10.0.{n >> 8}.{n & 255}") for n in range(count)]


def marked(vip=VIP, index=2):
    return vip_address(vip, IfIndex(index), valid_s=60)


def unmarked(vip=VIP, index=2, prefix=32):
    return Address(ip=vip, prefix_len=prefix, index=IfIndex(index))


class Kernel:
    """The port of `AddressSocket`: a table of addresses, with the kernel's answers."""

    def __init__(self, log):
        self.log = log
        self.table = {}
        self.refuse = {}  # VIP -> errno
        self.broken = None
        self.broken_afterwards = None  # the changes are made, and their answers lost
        self.dump_broken = None
        self.after_add = None

    def put(self, *addresses):
        for address in addresses:
            self.table[address.ip, address.prefix_len, address.index] = address

    def apply(self, operations):
        if self.broken:
            raise self.broken
        assert 0 < len(operations) <= SLICE
        results = [self.one(operation) for operation in operations]
        if self.broken_afterwards:
            raise self.broken_afterwards
        return results

    def one(self, operation):
        address = operation.address
        key = (address.ip, address.prefix_len, address.index)
        self.log.append((operation.kind, address.ip))
        code = self.refuse.get(address.ip, 0)
        if not code:
            if operation.kind == "delete":
                code = 0 if self.table.pop(key, None) else errno.EADDRNOTAVAIL
            elif operation.kind == "add" and key in self.table:
                code = errno.EEXIST
            else:
                self.table[key] = address
        if operation.kind == "add" and self.after_add:
            self.after_add(address.ip)
        return OpResult(operation=operation, errno=code, ext_ack="", seen=self.table.get(key))

    def dump(self):
        self.log.append(("dump", ""))
        if self.dump_broken:
            raise self.dump_broken
        return list(self.table.values())


class Announcements:
    """The announcer's side that the executor calls."""

    def __init__(self, log):
        self.log = log
        self.active = {}

    def start(self, vip, link):
        self.log.append(("start", vip))
        self.active[vip] = link

    def stop(self, vip):
        self.log.append(("stop", vip))
        self.active.pop(vip, None)

    def stop_all(self):
        self.log.append(("stop all", ""))
        self.active.clear()


class FakeSwitch:
    """The port of `Switch`: logs what changes an answer."""

    def __init__(self, log):
        self.log = log
        self.refuses = False
        self.expired = False
        self.whole = True

    def install(self, *, nics, vips):
        self.log.append(("install", " ".join(sorted(vips))))
        self.whole = True

    def covers(self, nic):
        return True

    def intact(self):
        return self.whole

    def admit(self, vips, group):
        if self.refuses:
            raise SwitchError("no")
        self.log += [("admit", vip) for vip in vips]

    def silence(self, vips):
        self.log += [("silence", vip) for vip in vips]

    def remove(self, vips):
        self.log += [("out", vip) for vip in vips]

    def others(self, vips):
        self.log.append(("others", " ".join(sorted(vips))))

    def arm_first(self, group, *, until):
        self.log.append(("arm", until))

    def rearm(self, group, *, until):
        if self.expired or not self.whole:
            raise Expired("gone")
        self.log.append(("rearm", until))

    def disarm(self, group=None):
        self.log.append(("disarm", group or ""))

    def provide(self, group):
        pass


class Bench:
    def __init__(self, *, weak=False):
        self.log = []
        self.switch = None if weak else FakeSwitch(self.log)
        self.kernel = Kernel(self.log)
        self.announcer = Announcements(self.log)
        self.facts = Facts()
        self.denied = set()
        self.groups = {}
        self.slices = 0
        self.news = lambda: None
        self.guard = Guard(self.switch)
        self.guard.install([], {})
        self.log.clear()
        self.executor = Executor(
            Binding(self.kernel, self.facts, clock=ManualClock(), lifetime_s=lambda: 60),
            self.guard,
            self.announcer,
            self.facts,
            clock=ManualClock(),
            permit=lambda vip: None if vip in self.denied or None in self.denied else 1003.0,
            group=lambda vip: self.groups.get(vip, "main"),
            progress=self.count,
            catch_up=lambda: self.news(),
        )

    def count(self):
        self.slices += 1

    def know(self, *addresses):
        self.kernel.put(*addresses)
        for address in addresses:
            self.facts.note_bound(address, now=1000.0)


def take(vip=VIP):
    return Take(vip=vip, link=LINK)


def let_go(address):
    return LetGo(vip=address.ip, address=address, reason="no claimant")


async def held(bench, groups):
    bench.groups = groups
    for vip in groups:
        assert [done.problem for done in await bench.executor.take([take(vip)], epoch=bench.executor.epoch)] == [""]
        bench.announcer.active[vip] = LINK
    bench.log.clear()
