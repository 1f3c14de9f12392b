"""Everything that goes wrong in a cluster, by name, and stories made of it.

Input: a world, a list of faults with pauses between them. Output: the world after them, or an AssertionError: two holders of a VIP, a VIP
that finds no holder, or more writes than a quiet cluster may make. By hand, for thousands of seeds:
`python -m tests.unit.core.election.chaos --seeds 0-2000`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from kvip.core.election import rebalancing
from kvip.core.election.lease import Timers
from tests.unit.core.election.simserver import WELL, Faults
from tests.unit.core.election.simulation import World

TIMINGS = (
    Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0),
    Timers(lease_duration_s=5.0, renew_deadline_s=4.0, retry_period_s=1.0),
    Timers(lease_duration_s=3.0, renew_deadline_s=2.0, retry_period_s=0.5),
    Timers(lease_duration_s=8.0, renew_deadline_s=6.0, retry_period_s=2.0),
)
BAD = (
    Faults(delay_s=(0.001, 0.4), watch_delay_s=(0.001, 0.4)),
    Faults(lose_answer=0.5),
    Faults(lose_request=0.4, refuse=0.3),
    Faults(late=0.5),
    Faults(late=0.3, lose_answer=0.3, watch_delay_s=(0.001, 3.0)),
    Faults(delay_s=(0.3, 1.2)),
    Faults(watch_delay_s=(0.5, 3.0), resume=0.0),
    Faults(lose_answer=1.0),
    Faults(refuse=1.0),
)


def cluster(seed):
    """A world of two to five nodes with timers, clocks and record counts of their own."""
    world = World(seed)
    chance = random.Random(seed)
    mixed = chance.random() < 0.4
    timers = chance.choice(TIMINGS)
    names = "abcde"[: chance.randint(2, 5)]
    if chance.random() < 0.2:
        # Two machines with one name.
        names = names[:-1] + "a"
    rebalance = chance.random() < 0.3
    for name in names:
        world.add(
            name,
            timers=chance.choice(TIMINGS) if mixed else timers,
            rate=chance.uniform(0.99, 1.01),
            offset=chance.uniform(0.0, 1000.0),
            count=chance.choice((3, 4, 5)),
            unbind_s=chance.choice((0.05, 0.05, 1.0)),
            rebalance=rebalance,
        )
    return world


# -- faults: each takes the world, a node, and a number from 0 to 1 ----------------------------------------------------------


def pause(world, node, strength):
    world.run(8 * strength)


def bad_network(world, node, strength):
    node.faults = BAD[int(strength * len(BAD)) % len(BAD)]


def good_network(world, node, strength):
    node.faults = WELL


def stall(world, node, strength):
    node.stall(0.1 + 9 * strength)


def kill(world, node, strength):
    node.kill()


def restart(world, node, strength):
    """With the journal, or without it; killed now if it runs."""
    former = node.state.incarnation
    node.kill()
    node.boot(trusted=former if strength < 0.5 else None)


def terminate(world, node, strength):
    if node.running and node.awake:
        node.release()


def start(world, node, strength):
    if not node.running:
        node.boot(trusted=node.state.incarnation if strength < 0.5 else None)


def cut(world, node, strength):
    node.cut = True
    node.watch.break_off()


def join(world, node, strength):
    node.cut = False


def break_watch(world, node, strength):
    node.watch.break_off()


def stale_watch(world, node, strength):
    """Half open: nothing comes for a while, then everything."""
    node.watch.stalled_until = world.now + 12 * strength


def stuck(world, node, strength):
    node.stuck = strength < 0.5


def busy(world, node, strength):
    """A turn of the reconcile loop that takes long, or its end."""
    node.busy = strength < 0.5
    node.soon()


def change_demand(world, node, strength):
    vip = world.vips[int(strength * len(world.vips)) % len(world.vips)]
    asked = any(vip in each.asked for each in world.nodes)
    for each in world.nodes:
        (each.asked.discard if asked else each.asked.add)(vip)
        each.soon()


def change_ability(world, node, strength):
    vip = world.vips[int(strength * len(world.vips)) % len(world.vips)]
    node.able ^= {vip}
    node.soon()


def _some_lease(world, strength):
    names = sorted(world.server.leases)
    return names[int(strength * len(names)) % len(names)] if names else ""


def delete(world, node, strength):
    world.server.delete(_some_lease(world, strength))


def delete_many(world, node, strength):
    for name in sorted(world.server.leases):
        if world.random.random() < strength:
            world.server.delete(name)


def blank(world, node, strength):
    if world.server.leases:
        world.server.blank(_some_lease(world, strength))


def unlabel(world, node, strength):
    if world.server.leases:
        world.server.unlabel(_some_lease(world, strength))


def touch(world, node, strength):
    if world.server.leases:
        world.server.touch(_some_lease(world, strength))


def back_up(world, node, strength):
    world.server.back_up()


def put_back(world, node, strength):
    """Leases of a backup are written again, under new versions."""
    if world.server.backups:
        _, leases = world.random.choice(world.server.backups)
        for lease in leases.values():
            if world.random.random() < strength:
                world.server.put_back(lease)


def restore(world, node, strength):
    """The whole store as it was at a backup. No etcd is restored within less than a second, nor to what was a moment ago."""
    old = [backup for backup in world.server.backups if backup[0] < world.server.version - 40]
    if old:
        world.server.restore(world.random.choice(old))


DAILY = (pause, pause, bad_network, good_network, stall, kill, restart, terminate, start, cut, join, break_watch, stale_watch, stuck, busy)
WISHES = (change_demand, change_ability)
ADMINISTRATOR = (delete, delete_many, blank, unlabel, touch, back_up, put_back, restore)
ALL = (*DAILY, *WISHES, *ADMINISTRATOR)
TIGHT = (stall, stall, kill, restart, start, cut, join, stale_watch, break_watch, bad_network, good_network)
TIGHT += (change_ability, change_ability, busy, delete, put_back, back_up, blank, touch, unlabel, pause)
"""What moves VIPs while somebody does not notice."""


def play(world, story, *, trace=False):
    """Let faults happen: (fault, number of the node, strength, seconds until the next)."""
    for fault, number, strength, pause_s in story:
        node = world.nodes[number % len(world.nodes)]
        if trace:
            print(f"{world.now:8.3f} {fault.__name__} {node.name} {strength:.3f}")
        fault(world, node, strength)
        world.run(pause_s)


def end_faults(world):
    for node in world.nodes:
        node.faults, node.cut, node.stuck, node.busy = WELL, False, False, False
        node.watch.stalled_until = min(node.watch.stalled_until, world.now)
        node.able = set(world.vips)
        if not node.running:
            node.boot()
        node.stalled_until = min(node.stalled_until, world.now)
        node.resume()


def bound_s(world):
    """How long a VIP may be without a holder once nothing goes wrong any more: history to wait out, a death, requests and turns."""
    return 2 * max(node.timers.lease_duration_s for node in world.nodes) + 14.0


NOTICED_S = 4.0
"""Within this, what was done last is noticed by all: two of the longest retry periods here. Before that all may look well."""


def judge(world):
    """Once faults end, every VIP finds its one holder, and the cluster gets quiet. Returns how long that took."""
    end_faults(world)
    world.run(NOTICED_S)
    took_s = world.until(world.all_held, limit_s=bound_s(world) - NOTICED_S) + NOTICED_S
    if any(node.rebalance for node in world.nodes):
        world.run(rebalancing.SETTLED_S + 20 * rebalancing.PERIOD_S)
    world.run(12.0)
    assert world.all_held()
    before, began, fences = world.server.writes, world.now, [len(node.fences) for node in world.nodes]
    world.run(10.0)
    allowed = sum(1 + 10.0 * node.rate / node.timers.retry_period_s for node in world.nodes)
    assert world.server.writes - before <= allowed, f"{world.server.writes - before} writes from {began:.0f} s on, {allowed:.0f} allowed"
    assert fences == [len(node.fences) for node in world.nodes], "a fence without a fault"
    return took_s


def story_of(seed):
    """A story that a seed tells; some consist of few kinds of fault."""
    chance = random.Random(-1 - seed)
    kinds = (ALL, DAILY, TIGHT, [*chance.sample(ALL, 5), *WISHES, pause, stall, back_up])[seed % 4]
    pace_s = chance.choice((0.05, 0.3, 1.0, 3.0))
    return [
        (chance.choice(kinds), chance.randrange(5), chance.random(), pace_s * chance.random() ** 2 * 2)
        for _ in range(chance.randint(8, 80))
    ]


def run_seed(seed, *, trace=False):
    world = cluster(seed)
    play(world, story_of(seed), trace=trace)
    return judge(world)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-1000")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    began, bad, longest_s, played = time.monotonic(), 0, 0.0, 0
    for seed in range(int(first), int(last or first) + 1):
        if time.monotonic() - began > options.seconds:
            break
        played += 1
        try:
            longest_s = max(longest_s, run_seed(seed, trace=options.trace))
        except AssertionError as error:
            bad += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print(f"{played} stories in {time.monotonic() - began:.0f} s, {bad} bad; longest until every VIP was held {longest_s:.1f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
