"""The guard over a fake switch."""

from kvip.clock import ManualClock
from kvip.daemon.guard import Guard
from tests.unit.daemon.fake_ports import FakeSwitch


class Bench:
    def __init__(self):
        self.log = []
        self.clock = ManualClock()
        self.switch = FakeSwitch(self.log, self.clock)
        self.guard = Guard(self.switch)
        self.guard.install(["eth0"], {})
        self.log.clear()

    def hold(self, *vips, until=1003.0):
        self.guard.admit(dict.fromkeys(vips, "eth0"))
        assert self.guard.arm(until) == ""
        self.log.clear()

    def did(self):
        return [call for call, _ in self.log]
