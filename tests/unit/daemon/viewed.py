"""The rooms of a house under the names that `Parts` gives them: what a view of the daemon asks."""

from types import SimpleNamespace

from kvip.daemon.lag import LoopLag


def parts_of(house, **more):
    """What `viewing` and `inquiry` ask of `Parts`."""
    elector = house.elector
    elector.incarnation, elector.observed, elector.valid_until = "n1_1", True, house.clock.now() + 2
    elector.holder = lambda vip: "n2_x" if elector.elsewhere(vip) else "n1_1"
    house.announcer.sent = lambda vip: (3, house.clock.now() - 1)
    return SimpleNamespace(
        clock=house.clock,
        settings=SimpleNamespace(node_name="n1", election="claims", disable_service_updates=False, refresh_interval_s=60.0),
        rules=house.desire._rules,
        caches=SimpleNamespace(services=house.services, synced=lambda: {"services": True}),
        desire=house.desire,
        nics=house.nics,
        ledger=house.ledger,
        chronicle=house.chronicle,
        facts=house.facts,
        outcome=house.outcome,
        announcer=house.announcer,
        executor=house.executor,
        guard=house.guard,
        firewall=house.firewall,
        reconcile=house.reconcile,
        disputes=SimpleNamespace(
            watch=SimpleNamespace(conflicting=lambda _: None), probing=SimpleNamespace(unprobed=lambda vip, _: vip in house.asking.unasked)
        ),
        lag=LoopLag(),
        elected=lambda: elector,
        **more,
    )
