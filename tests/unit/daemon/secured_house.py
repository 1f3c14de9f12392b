"""A house with service security: a fake table of port rules, replaced by calls that take as long as a child."""

import asyncio
import json

from msgspec.structs import replace

from kvip.core.objects import ServicePort
from kvip.errors import SwitchError
from tests.unit.daemon.house import House

API_KEY = "default/api"
CHILD_S = 0.02


class FakeTable:
    """The port of `ServiceRules`: one table, replaced by calls that take as long as a child."""

    def __init__(self):
        self.rules = None
        self.last = None
        self.calls = []
        self.running = 0
        self.refuses = ""
        self.unreadable = False
        self.meanwhile = lambda: None
        self.clock = None

    async def apply(self, rules):
        assert self.running == 0, "two at a time"
        self.running += 1
        try:
            self.calls.append(self.clock.now())
            assert len(self.calls) < 500, "applied without end"
            await asyncio.sleep(CHILD_S)
            if self.refuses:
                raise SwitchError(self.refuses)
            self.rules = self.last = rules
            self.meanwhile()
        finally:
            self.running -= 1

    def intact(self):
        if self.unreadable:
            raise SwitchError("no answer")
        return self.last is not None and self.rules is self.last

    def remove(self):
        there, self.rules = self.rules is not None, None
        return there

    def _set(self, name):
        entries = json.loads(self.rules.document)["nftables"] if self.rules else []
        found = [entry["add"]["set"] for entry in entries if "set" in entry.get("add", {})]
        return [element["elem"]["val"] for each in found if each["name"] == name for element in each.get("elem", [])]

    def ports(self):
        return {value["concat"][2] for value in self._set("ports4")}

    def vips(self):
        return set(self._set("vips4"))


def with_ports(base, *ports, ignore=None):
    annotations = dict(base.metadata.annotations or {})
    if ignore is not None:
        annotations["kube-vip.io/ignore-service-security"] = ignore
    spec = replace(base.spec, ports=tuple(ServicePort(port=port) for port in ports))
    return replace(base, metadata=replace(base.metadata, annotations=annotations), spec=spec)


class Secured(House):
    def __init__(self, **more):
        self.table = FakeTable()
        super().__init__(table=self.table, **more)
        self.table.clock = self.clock

    def play(self, story):
        async def both():
            self.applying = asyncio.create_task(self.firewall.run())
            try:
                await story()
            finally:
                self.applying.cancel()
                await asyncio.gather(self.applying, return_exceptions=True)

        super().play(both)

    def pairs(self, *calls):
        return [entry for entry in self.log if entry[0] in calls]
