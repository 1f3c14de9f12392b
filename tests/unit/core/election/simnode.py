"""One daemon of the simulated cluster: the decisions of `claims`, and a kernel that goes by them even when the daemon does not run.

Input: messages, answers, its own clock. Output: requests to the world, what is bound. It is the counterpart of `daemon.claims_loop`.
"""

from __future__ import annotations

import msgspec

from kvip.core.election import claims, renewal
from kvip.core.election.lease import Timers
from kvip.core.election.state import Want, valid_until
from kvip.core.model import Incarnation
from tests.unit.core.election.simserver import WELL, Watch

replace = msgspec.structs.replace
TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)
COUNT = 4
DEAD = float("inf")
RESTORE_S = 6.2
"""To restore etcd every API server is stopped (kubernetes.io, "Restoring an etcd cluster"), for longer than any renew deadline here.

A daemon that was running may hear of it at once all the same; one that starts cannot know what was before, and is served after that.
"""


class Node:
    """One daemon on one machine. `able`, `asked`: what its Services and NICs would say of the VIPs."""

    def __init__(self, world, name, *, timers=TIMERS, rate=1.0, offset=0.0, count=COUNT, unbind_s=0.05, shared_name="", rebalance=False):
        self.world = world
        self.name = name
        self.timers = timers
        self.rate, self.offset = rate, offset
        self.count = count
        self.unbind_s = unbind_s
        self.shared_name = shared_name
        self.rebalance = rebalance
        self.faults = WELL
        self.hold = None
        """Which requests do not reach the server; a test carries them out by hand, or not."""
        self.held = []
        self.cut = False
        self.stuck = False
        self.busy = False
        """A turn of the reconcile loop goes on: what it bound is told when it ends, and nothing is let go of before the next."""
        self.stalled_until = 0.0
        self.inbox = []
        self.able = set()
        self.asked = set()
        self.bound = set()
        self.fences = []
        self.takes = 0
        self.epoch = 0
        self.watch = Watch(self)
        self.wake = 0
        self.state = None
        self.boot()

    def now(self):
        return self.offset + self.world.now * self.rate

    def _incarnation(self):
        return Incarnation(f"{self.name}_{self.world.random.getrandbits(128):032x}")

    @property
    def running(self):
        return self.stalled_until != DEAD

    @property
    def awake(self):
        return self.world.now >= self.stalled_until

    def boot(self, trusted=None, lately=False):
        """The daemon starts: what is marked in the kernel is removed before anything else.

        `trusted`: its predecessor, by the journal; `lately`: something was marked."""
        self.epoch += 1
        self.bound = set()
        self.busy = False
        self.inbox = []
        self.stalled_until = 0.0
        self.deaf_until = self.world.server.restored_at + RESTORE_S
        self.told = {}
        options = {"count": self.count, "shared_name": self.shared_name, "rebalance": self.rebalance}
        self.state = claims.start(self.name, self._incarnation(), self.timers, **options)
        if trusted:
            self.state = claims.trust(self.state, trusted, lately=lately)
        self.watch.forget()
        self.soon()

    def kill(self):
        """SIGKILL: what is bound stays, silenced by the switch when the validity ends; the state stays as what the kernel goes by."""
        self.epoch += 1
        self.stalled_until = DEAD
        self.inbox = []

    def release(self):
        """SIGTERM: let go of everything, then one write; the process ends."""
        self.bound = set()
        op = renewal.release(self.state, self.now())
        self.kill()
        self.state = replace(self.state, renewed_until=None)
        if op is not None:
            self.world.send(self, op)

    def acts(self):
        """The VIPs that this machine answers for at this instant."""
        until = valid_until(self.state)
        return self.bound if until is not None and self.now() < until else frozenset()

    # -- running ------------------------------------------------------------------------------------------------------

    def stall(self, seconds):
        """SIGSTOP, and SIGCONT later."""
        if self.running:
            self.stalled_until = max(self.stalled_until, self.world.now + seconds)
            self.world.at(self.stalled_until, self.resume)

    def resume(self):
        """Timers and what came meanwhile are due at once, in either order."""
        if not self.awake:
            return
        inbox, self.inbox = self.inbox, []
        if self.world.random.random() < 0.5:
            self.turn()
        for action in inbox:
            self.run_now_or_later(action)
        self.turn()

    def run_now_or_later(self, action):
        if not self.awake:
            self.inbox.append(action)
            return
        action()

    def soon(self, at=None):
        self.wake += 1
        number, epoch = self.wake, self.epoch
        due = self.world.now if at is None else max(self.world.now, (at - self.offset) / self.rate + 1e-6)
        if due < DEAD:
            self.world.at(due, lambda: self.run_now_or_later(self.turn) if (number, epoch) == (self.wake, self.epoch) else None)

    def hear(self, name, lease):
        self._learn(claims.watched(self.state, name, lease, now=self.now()))
        self.soon()

    def went_on_from_a_snapshot(self):
        self.state = claims.bridged(self.state, now=self.now())

    def answer(self, op, answer, epoch):
        if epoch == self.epoch:
            self.run_now_or_later(lambda: self._learn(claims.answered(self.state, op, answer, now=self.now())))
            self.soon()

    def _learn(self, state):
        """Consequences in the same instant, as in the daemon: a longer validity, or a fence."""
        self.state = state
        if state.renewed_until is not None:
            reason = claims.step(state, self.now()).fence
            if reason:
                self.fence(reason)
        self.world.check(self)

    def fence(self, reason):
        self.fences.append(reason)
        self.bound = set()
        self.state = claims.fenced(self.state, self._incarnation())

    def want(self, vip):
        return Want(
            asked=vip in self.asked,
            able=vip in self.asked and vip in self.able,
            shown=vip in self.world.shown,
            held=vip in self.bound,
            unconfirmed=vip in self.world.unconfirmed,
            unasked=vip in self.world.moved,
            leaning=self.world.leaning,
        )

    def news(self):
        """What is to be told of the VIPs. What is told of one is as it is now, all of it."""
        news = {vip: want for vip in self.world.vips if self.told.get(vip) != (want := self.want(vip))}
        if not self.busy:
            return news
        return {vip: w for vip, w in news.items() if vip not in self.told or replace(self.told[vip], held=w.held, shown=w.shown) != w}

    def turn(self):
        if not self.awake:
            return
        for _ in range(50):
            if self.state.count is not None:
                wants = self.news()
                if wants:
                    self.state = claims.demanded(self.state, wants, now=self.now())
                    self.told.update(wants)
            step = claims.step(self.state, self.now(), stuck=self.stuck)
            self.state = step.state
            if not step.fence:
                break
            self.fence(step.fence)
        else:
            raise AssertionError(f"{self.name} never comes to rest: {self.fences[-5:]}")
        for op in step.ops:
            self.world.send(self, op)
        permits = claims.permits(self.state) if valid_until(self.state) is not None else frozenset()
        for vip in sorted(permits - self.bound - self.world.taken):
            self.bound.add(vip)
            self.takes += 1
            self.world.shown.add(vip)
            self.soon()
        for vip in sorted(self.bound - permits):
            delay_s = self.world.random.uniform(0.0, self.unbind_s)
            self.world.at(self.world.now + delay_s, lambda vip=vip: self.run_now_or_later(lambda: self.let_go(vip)))
        self.world.check(self)
        self.soon(step.wake_at)

    def let_go(self, vip):
        if self.busy:
            self.world.at(self.world.now + self.unbind_s, lambda: self.run_now_or_later(lambda: self.let_go(vip)))
        elif vip in self.bound and vip not in claims.permits(self.state):
            self.bound.discard(vip)
            self.soon()
