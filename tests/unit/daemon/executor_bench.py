"""The executor over a fake kernel and a fake switch, with a log of what was done."""

from msgspec.structs import replace

from kvip.clock import ManualClock
from kvip.core.diff import LetGo, Take
from kvip.core.facts import Facts
from kvip.core.model import Vip
from kvip.daemon.binding import SLICE, TAKE_SLICE, Binding
from kvip.daemon.executor import Executor
from kvip.daemon.guard import Guard
from kvip.errors import SwitchError
from kvip.kernel.switch import Expired
from tests.unit.daemon import fake_ports
from tests.unit.daemon.fake_ports import ETH0, OTHER, VIP
from tests.unit.daemon.fake_ports import marked as marked

LINK, SECOND = ETH0, OTHER


def many(count):
    return [Vip(f"10.0.{n >> 8}.{n & 255}") for n in range(count)]


def unmarked(vip=VIP):
    return fake_ports.unmarked(vip, prefix=32)


class Kernel(fake_ports.Kernel):
    """Its dumps are in the log too, and it may break."""

    def __init__(self, log):
        super().__init__(log)
        self.broken = None
        self.broken_afterwards = None  # the changes are made, and their answers lost
        self.dump_broken = None
        self.after_add = None

    def apply(self, operations):
        if self.broken:
            raise self.broken
        assert 0 < len(operations) <= (TAKE_SLICE if operations[0].kind == "add" else SLICE)
        results = super().apply(operations)
        if self.broken_afterwards:
            raise self.broken_afterwards
        return results

    def one(self, operation):
        result, address = super().one(operation), operation.address
        if operation.kind == "add" and self.after_add:
            self.after_add(address.ip)
        return replace(result, seen=self.table.get((address.ip, address.prefix_len, address.index)))

    def dump(self):
        self.log.append(("dump", ""))
        return super().dump()


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
    def __init__(self, *, weak=False, dump_beside=None, beside=None, kernel=Kernel):
        self.log = []
        self.switch = None if weak else FakeSwitch(self.log)
        self.kernel = kernel(self.log)
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
            Binding(self.kernel, self.facts, clock=ManualClock(), lifetime_s=lambda: 60, dump_beside=dump_beside, beside=beside),
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
