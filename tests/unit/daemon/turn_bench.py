"""A house whose turns are made one by one, for tests of what each of them does and leaves."""

from tests.unit.daemon.fake_ports import VIP
from tests.unit.daemon.house import House


class Again:
    """Where the turn leaves what it could not finish."""

    def __init__(self):
        self.later = {}
        self.doubts = 0

    def at(self, vip, when):
        self.later[vip] = when

    def doubt(self):
        self.doubts += 1


class TurnHouse(House):
    def __init__(self, *, dad=False):
        super().__init__(dad=dad)
        self.again = Again()

    async def act(self, *vips):
        """One turn over these VIPs; returns what it did to the kernel, the switch and the announcements."""
        self.log.clear()
        self.again.later.clear()
        await self.turn.act(dict.fromkeys(vips or (VIP,), self.clock.now()), self.again)
        return list(self.log)

    async def act_again(self):
        """The same turn, once its time has come; returns how long that took."""
        delay_s = self.again.later[VIP] - self.clock.now()
        self.clock.advance(delay_s)
        await self.act()
        return delay_s
