"""One daemon's rooms, and what happens outside of them: Services come and go, the kernel shows addresses, the reconcile loop runs."""

import asyncio

from tests.unit.clock_loop import ClockLoop
from tests.unit.daemon.fake_ports import WEB
from tests.unit.daemon.rooms import Rooms


class House(Rooms):
    """The rooms of one node, with the verbs that tests use."""

    def apply(self, *services):
        """These Services exist, as the informer would tell."""
        for each in services:
            key = f"{each.metadata.namespace}/{each.metadata.name}"
            self.services.store[key] = each
            self.reconcile.on_service(key)

    def read(self, *services):
        """These Services exist, and are read one by one; returns the VIPs that are to be looked at again."""
        self.apply(*services)
        return set().union(*(self.look(f"{each.metadata.namespace}/{each.metadata.name}") for each in services))

    def look(self, key=WEB):
        """Read this Service; returns the VIPs that are to be looked at again."""
        return self.desire.read([key])

    def delete(self, key=WEB):
        del self.services.store[key]
        self.reconcile.on_service(key)

    def know(self, *addresses):
        """These addresses are in the kernel and in the facts."""
        self.kernel.put(*addresses)
        for address in addresses:
            self.facts.note_bound(address, now=self.clock.now())

    def play(self, story):
        """Run `story()` beside the reconcile loop, on an event loop whose pauses move the clock."""

        async def scene():
            self.task = asyncio.create_task(self.reconcile.run())
            try:
                await asyncio.sleep(0.01)
                await story()
            finally:
                result = await self.stop()
            assert isinstance(result, asyncio.CancelledError), result

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())

    async def stop(self):
        """End the reconcile loop; returns how it ended."""
        self.task.cancel()
        (result,) = await asyncio.gather(self.task, return_exceptions=True)
        return result

    async def start_again(self):
        """The reconcile loop ended, and is started anew."""
        await self.stop()
        self.task = asyncio.create_task(self.reconcile.run())
