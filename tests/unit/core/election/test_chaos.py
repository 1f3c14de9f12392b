"""Mode `claims` under everything that goes wrong: never two holders, a holder for every VIP once faults stop, few writes.

Short and always the same here; `python -m tests.unit.core.election.chaos` plays thousands of stories.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.unit.core.election import chaos

STRENGTHS = st.floats(0.0, 1.0, exclude_max=True)
NODES = st.integers(0, 4)
PAUSES = st.sampled_from((0.0, 0.01, 0.3, 1.0, 3.0, 6.0))


class Cluster(RuleBasedStateMachine):
    """Two to five nodes; `World.check` looks for a second holder whenever a node may have got something."""

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed):
        self.world = chaos.cluster(seed)
        self.world.run(1.0)

    def fault(self, fault, node, strength, pause_s):
        chaos.play(self.world, [(fault, node, strength, pause_s)])

    @rule(fault=st.sampled_from(chaos.DAILY), node=NODES, strength=STRENGTHS, pause_s=PAUSES)
    def daily(self, fault, node, strength, pause_s):
        self.fault(fault, node, strength, pause_s)

    @rule(fault=st.sampled_from(chaos.WISHES), node=NODES, strength=STRENGTHS, pause_s=PAUSES)
    def wish(self, fault, node, strength, pause_s):
        self.fault(fault, node, strength, pause_s)

    @rule(fault=st.sampled_from(chaos.ADMINISTRATOR), node=NODES, strength=STRENGTHS, pause_s=PAUSES)
    def administrator(self, fault, node, strength, pause_s):
        self.fault(fault, node, strength, pause_s)

    def teardown(self):
        if hasattr(self, "world"):
            chaos.judge(self.world)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    derandomize=True,
    database=None,
    max_examples=settings.default.max_examples // 8,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_some_stories():
    for seed in (2, 3, 7):
        chaos.run_seed(seed)


def test_the_same_seed_tells_the_same_story():
    """Of seeds whose clusters take another time each until every VIP is held: the shortest time there is would say nothing."""
    told = [(chaos.run_seed(seed), chaos.run_seed(seed)) for seed in (0, 2)]
    assert all(first == second > chaos.NOTICED_S for first, second in told)
    assert told[0] != told[1]
