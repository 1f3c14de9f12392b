"""The hand on the switch in any story: nothing answers beyond what was let through and valid, and it always recovers."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvip.clock import ManualClock
from kvip.daemon.guard import Guard
from kvip.errors import SwitchError
from tests.unit.daemon.fake_ports import OTHER, THIRD, VIP, FakeSwitch

CALLS = ("install", "admit", "silence", "remove", "others", "arm_first", "rearm", "disarm")
VIPS = st.sets(st.sampled_from([VIP, OTHER, THIRD]), min_size=1)


class AnyStory(RuleBasedStateMachine):
    """Calls, refusals and flushes in any order; a reason to fence is followed by a disarm, as an election does."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.switch = FakeSwitch([], self.clock)
        self.guard = Guard(self.switch)
        self.guard.install(["eth0"], {})
        self.let_through = set()
        self.until = None

    def judge(self, problem):
        if problem:
            self.guard.disarm()
            self.until = None

    @rule(vips=VIPS)
    def admit(self, vips):
        try:
            self.guard.admit(dict.fromkeys(vips, "eth0"))
        except SwitchError:
            pass
        else:
            self.let_through |= vips

    @rule(vips=VIPS)
    def silence(self, vips):
        self.guard.silence(dict.fromkeys(vips, "eth0"))
        if "silence" not in self.switch.fails:
            self.let_through -= vips

    @rule(seconds=st.floats(0.1, 3))
    def arm(self, seconds):
        self.until = self.clock.now() + seconds
        self.judge(self.guard.arm(self.until))

    @rule()
    def check(self):
        self.judge(self.guard.check())

    @precondition(lambda self: not self.switch.fails)
    @rule()
    def recover(self):
        self.check()
        self.check()
        assert self.guard.problem == ""
        assert self.switch.there

    @rule(seconds=st.floats(0.1, 2))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @precondition(lambda self: self.switch.there)
    @rule()
    def flush(self):
        self.switch.flush()

    @rule(calls=st.sets(st.sampled_from(CALLS), max_size=2))
    def refuse(self, calls):
        self.switch.fails = calls

    @invariant()
    def nothing_answers_beyond_what_was_let_through_and_valid(self):
        switch = self.switch
        if switch.there:
            answering = {vip for vip in switch.places if switch.answers(vip)}
            assert answering <= self.let_through
            assert not answering or (switch.until or 0) <= (self.until or switch.until or 0)


TestAnyStory = AnyStory.TestCase
TestAnyStory.settings = settings(max_examples=40, stateful_step_count=20)
