"""The soak's judges: each promise broken is seen, and what is allowed is not held against anybody. No clock, no socket."""

from __future__ import annotations

import pytest

from kvip.core.model import MARK_PROTO, Address, IfIndex, Vip
from lab.sniffer import Frame
from lab.soak.checker import Checker, Violations
from lab.soak.claims import JUDGE_AFTER_S, Claims
from lab.soak.model import FOREIGN, FOREIGN6, Fault
from lab.soak.settle import differences, status_differences
from lab.soak.world import World

VIP = "10.10.0.200"
MACS = {"n1": "02:00:00:00:00:01", "n2": "02:00:00:00:00:02"}
CLIENT_MAC = "02:00:00:00:00:64"


class Stage:
    """A world, its judges, and short words for what happens."""

    def __init__(self) -> None:
        self.world = World(0.0)
        self.violations = Violations(self.world, list)
        self.checker = Checker(self.world, self.violations, node_of={mac: node for node, mac in MACS.items()}, vips=(VIP,))
        self.claims = Claims(self.world, self.violations, seen_bound_s=self.checker.seen_bound_s)

    def create(self, at_s: float, name: str = "s00", *, uid: str = "u1") -> None:
        self.world.changing(name, (VIP,))
        self.world.asked(uid, (VIP,), at_s=at_s)
        self.world.settled(name, (VIP,), at_s=at_s)

    def delete(self, at_s: float, name: str = "s00") -> None:
        self.world.changing(name, ())
        self.world.settled(name, (), at_s=at_s)

    def fault(self, kind: str, began_s: float, ended_s: float | None = None, *, node: str = "n1") -> Fault:
        fault = self.world.begin(kind, node, at_s=began_s)  # type: ignore[arg-type]
        fault.ending_s = fault.ended_s = ended_s
        return fault

    def answers(self, node: str, since_s: float, until_s: float) -> None:
        """Asked every 30 ms, and answered by this node ("" = by nobody)."""
        at_s = since_s
        while at_s < until_s:
            self.checker.frames([_frame(at_s, CLIENT_MAC, outgoing=True)])
            if node:
                self.checker.frames([_frame(at_s + 0.0001, MACS[node])])
            self.checker.look(at_s + 0.0002)
            at_s += 0.03

    def announces(self, node: str, at_s: float) -> None:
        self.checker.frames([_frame(at_s, MACS[node], announcement=True)])

    def kernel(self, node: str, *vips: str, at_s: float, missing: str = "") -> None:
        plain = [Address(ip=Vip(ip), prefix_len=32, index=IfIndex(2)) for ip in (*FOREIGN, FOREIGN6) if ip != missing]
        marked = [Address(ip=Vip(vip), prefix_len=32, index=IfIndex(2), proto=MARK_PROTO) for vip in vips]
        self.checker.kernel(node, [*plain, *marked], at_s=at_s)

    @property
    def found(self) -> list[str]:
        return [violation.invariant for violation in self.violations.found]


def _frame(at_s: float, mac: str, *, outgoing: bool = False, announcement: bool = False) -> Frame:
    client = "10.10.0.100"
    return Frame(
        at_s=at_s, kind="arp", op=1 if outgoing else 2, eth_src=mac, eth_dst=CLIENT_MAC, sender_mac=mac,
        sender_ip=client if outgoing else VIP, target_ip=VIP if outgoing or announcement else client,
        outgoing=outgoing, announcement=announcement,
    )  # fmt: skip


@pytest.fixture
def stage() -> Stage:
    return Stage()


# -- I1 --------------------------------------------------------------------------------------------------------------------


def test_i1_seconds_with_two_answers_are_a_violation(stage: Stage) -> None:
    stage.checker.two_answers(VIP, 0.0, now_s=1.0)
    assert stage.found == []
    stage.checker.two_answers(VIP, 0.03, now_s=1.1)
    assert stage.found == ["I1"]


@pytest.mark.parametrize("kind", ["kill", "freeze", "cut"])
def test_i1_a_node_that_answers_past_the_renew_deadline_is_seen_even_alone(stage: Stage, kind: str) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 5.0)
    stage.fault(kind, 5.0)
    stage.answers("n1", 5.0, 8.4)
    assert stage.found == []
    stage.answers("n1", 8.51, 8.6)
    assert stage.found == ["I1"]


def test_i1_a_node_may_answer_again_once_its_fault_is_over(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("freeze", 2.0, 9.0)
    stage.answers("n2", 1.0, 12.0)
    stage.answers("n1", 12.0, 12.3)
    assert stage.found == []


# -- I2 --------------------------------------------------------------------------------------------------------------------


def test_i2_an_answer_a_second_after_the_delete_is_a_violation_and_before_it_is_not(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 5.9)
    stage.delete(5.0)
    assert stage.found == []
    stage.answers("n1", 6.01, 6.05)
    assert stage.found == ["I2"]
    assert stage.checker.left_over == {("n1", VIP)}


@pytest.mark.parametrize("kind", ["kill", "freeze", "cut"])
def test_i2_where_the_daemon_cannot_hear_the_kernel_must_be_silent_at_the_renew_deadline(stage: Stage, kind: str) -> None:
    stage.create(1.0)
    stage.fault(kind, 4.9)
    stage.delete(5.0)
    assert stage.world.silent_by(5.0, "n1") == pytest.approx(4.9 + 3.0 + 0.5)
    assert stage.world.silent_by(5.0, "n2") == pytest.approx(6.0)


def test_i2_a_resync_has_ten_seconds_after_the_watch_is_whole_again(stage: Stage) -> None:
    stage.create(1.0)
    swallow = stage.fault("swallow", 4.0)
    stage.delete(5.0)
    assert stage.world.silent_by(5.0, "n1") == float("inf")
    swallow.ended_s = 7.0
    assert stage.world.silent_by(5.0, "n1") == pytest.approx(17.0)
    stage.kernel("n1", VIP, at_s=16.9)
    assert stage.found == []
    stage.kernel("n1", VIP, at_s=17.1)
    assert stage.found == ["I2"]


def test_i2_bound_on_a_dead_node_is_allowed_until_its_restart_or_the_end_of_the_lifetime(stage: Stage) -> None:
    stage.create(1.0)
    kill = stage.fault("kill", 4.0)
    stage.delete(5.0)
    stage.kernel("n1", VIP, at_s=69.9)
    assert stage.found == []
    stage.kernel("n1", VIP, at_s=70.1)
    assert stage.found == ["I2"]
    kill.ended_s = 20.0
    assert stage.world.unbound_by(5.0, "n1") == pytest.approx(23.0)


@pytest.mark.parametrize(("restarted_s", "keeps"), [(9.5, True), (10.5, True), (4.0, False)])
def test_a_daemon_that_starts_without_the_api_server_may_keep_what_it_found_until_that_is_heard(
    stage, restarted_s: float, keeps: bool
) -> None:
    stage.fault("kill", 3.0, restarted_s)
    cut = stage.fault("cut", 10.0)
    assert (stage.world.unbound_by(9.8, "n1") > 60.0) is keeps
    cut.ending_s = cut.ended_s = 20.0
    assert stage.world.unbound_by(9.8, "n1") == pytest.approx(30.0)


def test_i2_a_shared_address_is_no_orphan_while_one_service_asks_for_it(stage: Stage) -> None:
    stage.create(1.0)
    stage.create(2.0, "s01", uid="u2")
    stage.delete(3.0)
    stage.answers("n1", 1.0, 6.0)
    assert stage.found == []
    stage.delete(6.0, "s01")
    stage.answers("n1", 7.1, 7.2)
    assert stage.found == ["I2"]


def test_nothing_is_held_against_anybody_while_a_write_is_not_confirmed(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 2.0)
    stage.world.changing("s00", ())
    stage.answers("n1", 2.0, 5.0)
    stage.answers("", 5.0, 9.0)
    assert stage.found == []


# -- I4 --------------------------------------------------------------------------------------------------------------------


def test_i4_an_announcement_while_another_node_goes_on_answering_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n2", 1.0, 5.0)
    stage.announces("n1", 5.0)
    assert stage.found == []
    stage.answers("n2", 5.01, 5.1)
    assert stage.found == ["I4"]


def test_i4_an_announcement_of_the_one_that_takes_over_is_not(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n2", 1.0, 5.0)
    stage.announces("n1", 5.0)
    stage.answers("n1", 5.01, 5.1)
    assert stage.found == []


@pytest.mark.parametrize("kind", ["kill", "freeze"])
def test_i4_a_frame_of_a_daemon_that_cannot_run_is_a_violation_at_once(stage: Stage, kind: str) -> None:
    stage.create(1.0)
    stage.fault(kind, 5.0)
    stage.announces("n1", 5.02)
    assert stage.found == []
    stage.announces("n1", 5.2)
    assert stage.found == ["I4"]


def test_i4_a_frame_right_after_the_daemon_woke_within_its_lease_is_not(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("freeze", 5.0, 6.8)
    stage.announces("n1", 6.802)
    assert stage.found == []


def test_i4_a_frame_of_a_node_cut_off_beyond_the_renew_deadline_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("cut", 5.0)
    stage.announces("n1", 8.4)
    assert stage.found == []
    stage.announces("n1", 8.6)
    assert stage.found == ["I4"]


# -- I5, silence -----------------------------------------------------------------------------------------------------------


def test_i5_half_a_second_of_silence_without_a_fault_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.answers("", 10.0, 10.4)
    stage.answers("n1", 10.4, 11.0)
    assert stage.found == []
    stage.answers("", 11.0, 11.7)
    assert stage.found == ["I5"]


@pytest.mark.parametrize(
    ("kind", "allowed_s"), [("kill", 6.0), ("freeze", 6.0), ("cut", 6.0), ("term", 0.5), ("flush", 1.0), ("swallow", 0.5)]
)
def test_i5_under_one_fault_its_own_bound_holds(stage: Stage, kind: str, allowed_s: float) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.fault(kind, 10.0, 10.0 + allowed_s)
    stage.answers("", 10.0, 10.0 + allowed_s - 0.1)
    assert stage.found == []
    stage.answers("", 10.0 + allowed_s - 0.1, 10.2 + allowed_s)
    assert stage.found == ["I5"]
    stage.answers("n2", 10.2 + allowed_s, 11.0 + allowed_s)
    assert stage.found == ["I5"]
    row = stage.checker.silence.rows[kind]
    assert row.bound_s == allowed_s
    assert row.longest_s == pytest.approx(allowed_s + 0.2, abs=0.1)


def test_overlapping_faults_are_reported_and_not_judged(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.fault("kill", 10.0)
    stage.fault("freeze", 10.0, 29.0, node="n2")
    stage.answers("", 10.0, 30.0)
    stage.answers("n2", 30.0, 30.1)
    assert stage.found == []
    assert stage.checker.silence.rows["overlapping"].longest_s == pytest.approx(20.0, abs=0.1)


def test_a_fault_far_away_in_time_excuses_nothing(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("nic_down", 2.0, 3.0)
    stage.answers("n1", 1.0, 20.0)
    stage.answers("", 20.0, 20.7)
    assert stage.found == ["I5"]


def test_silence_is_not_concluded_from_questions_that_were_not_asked(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.checker.frames([_frame(10.01, CLIENT_MAC, outgoing=True)])
    stage.answers("n1", 13.0, 13.5)
    assert stage.found == []


def test_a_new_vip_has_a_second_to_answer(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("", 1.0, 1.9)
    assert stage.found == []
    stage.answers("", 1.9, 2.2)
    assert stage.found == ["I5"]


# -- I6, I7, I3 ------------------------------------------------------------------------------------------------------------


def test_i6_an_unmarked_address_that_is_gone_or_marked_is_a_violation(stage: Stage) -> None:
    stage.kernel("n1", at_s=1.0)
    assert stage.found == []
    stage.kernel("n1", at_s=1.1, missing=FOREIGN[0])
    assert stage.found == ["I6"]
    stage.kernel("n2", FOREIGN[1], at_s=1.2)
    assert stage.found == ["I6", "I6", "I2"]


def _service(uid: str, *ingress: str, asks: str = VIP) -> dict[str, object]:
    return {
        "metadata": {"name": "s00", "uid": uid, "annotations": {"kube-vip.io/loadbalancerIPs": asks}},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ingress]}},
    }


def test_i7_a_status_that_names_what_was_bound_is_right(stage: Stage) -> None:
    stage.create(1.0)
    stage.announces("n1", 1.1)
    stage.claims.services([_service("u1", VIP)], at_s=1.2)
    stage.claims.judge(1.2 + JUDGE_AFTER_S)
    assert stage.claims.judged == 1
    assert stage.found == []


def test_i7_a_status_that_names_what_was_never_bound_or_asked_for_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.claims.services([_service("u1", VIP)], at_s=1.2)
    stage.claims.judge(1.2 + JUDGE_AFTER_S)
    assert stage.found == ["I7"]
    stage.claims.services([_service("other", VIP)], at_s=2.0)
    stage.claims.judge(2.0 + JUDGE_AFTER_S)
    assert stage.found == ["I7", "I7"]


def test_i7_what_was_bound_for_a_former_service_does_not_count_for_the_new_one(stage: Stage) -> None:
    stage.create(1.0)
    stage.kernel("n1", VIP, at_s=1.1)
    stage.delete(2.0)
    stage.create(3.0, uid="u2")
    stage.claims.services([_service("u2", VIP)], at_s=3.1)
    stage.claims.judge(3.1 + JUDGE_AFTER_S)
    assert stage.found == ["I7"]


def test_i7_an_event_is_held_to_the_node_that_it_names(stage: Stage) -> None:
    stage.create(1.0)
    stage.kernel("n1", VIP, at_s=1.1)
    events = [
        {
            "metadata": {"uid": node}, "reason": "VIPBound", "involvedObject": {"name": "s00", "uid": "u1"},
            "message": f"{VIP} is bound and announced on {node} (eth0)",
        }
        for node in ("n1", "n2")
    ]  # fmt: skip
    stage.claims.events(events[:1], at_s=1.2)
    stage.claims.judge(2.0)
    assert stage.found == []
    stage.claims.events(events, at_s=2.2)
    stage.claims.judge(3.0)
    assert stage.found == ["I7"]


def test_i3_bound_nowhere_twice_without_an_owner_or_silent_is_a_difference() -> None:
    living = {VIP: {"s00"}}

    def differs(bound: dict[str, frozenset[str]], holder: str = "n1", *, now_s: float = 1.0) -> bool:
        return bool(differences(living=living, bound=bound, holders={VIP: (holder, 1.0)}, now_s=now_s))

    assert not differs({"n1": frozenset({VIP}), "n2": frozenset()})
    assert differs({"n1": frozenset(), "n2": frozenset()})
    assert differs({"n1": frozenset({VIP}), "n2": frozenset({VIP})})
    assert differs({"n1": frozenset({VIP, "10.10.0.201"})})
    assert differs({"n1": frozenset({VIP})}, "n2")
    assert differs({"n1": frozenset({VIP})}, now_s=2.0)


def test_i7_a_status_that_lacks_an_address_or_keeps_one_is_a_difference() -> None:
    assert status_differences([_service("u", VIP)]) == []
    assert len(status_differences([_service("u")])) == 1
    assert len(status_differences([_service("u", VIP, asks="10.10.0.201")])) == 2


def test_the_same_violation_of_many_vips_is_told_once() -> None:
    violations = Violations(World(0.0), lambda: ["context"])
    for number in range(3):
        violations.add("I1", f"10.10.0.{number} was answered by two nodes at once", at_s=1.0, vip=f"10.10.0.{number}")
    violations.add("I1", "10.10.0.0 was answered by two nodes at once", at_s=20.0, vip="10.10.0.0")
    assert [(violation.count, violation.vips) for violation in violations.found] == [
        (3, ["10.10.0.0", "10.10.0.1", "10.10.0.2"]), (1, ["10.10.0.0"]),
    ]  # fmt: skip
