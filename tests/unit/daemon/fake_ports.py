"""Fake ports and objects for tests of the daemon's rooms: a kernel, a switch, an announcer, caches, and books for status and Events."""

import errno

import msgspec

from kvip.core.model import Address, IfIndex, Link, ServiceKey, Vip
from kvip.core.objects import (
    Endpoint,
    EndpointConditions,
    EndpointSlice,
    Ingress,
    LoadBalancerStatus,
    Node,
    NodeAddress,
    NodeStatus,
    ObjectMeta,
    Service,
    ServiceSpec,
    ServiceStatus,
)
from kvip.errors import NetlinkError, SwitchError
from kvip.kernel.batches import OpResult, vip_address
from kvip.kernel.switch import Expired, Late

ETH0 = Link(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\1", up=True, carrier=True)
ETH1 = Link(index=IfIndex(3), name="eth1", mac=b"\2\0\0\0\0\2", up=True, carrier=True)
IPVS0 = Link(index=IfIndex(9), name="kube-ipvs0", mac=b"\2\0\0\0\0\x09", up=False, carrier=False)
VIP, OTHER, THIRD = Vip("192.0.2.7"), Vip("192.0.2.8"), Vip("192.0.2.9")
VIP6 = Vip("2001:db8::7")
WEB, API = ServiceKey("default/web"), ServiceKey("default/api")
LIFETIME_S = 60
TOO_MANY = 2_000
"""Calls of a port in one test that only a loop which never rests makes."""


def marked(vip=VIP, index=2):
    return vip_address(vip, IfIndex(index), valid_s=LIFETIME_S)


def unmarked(vip=VIP, index=2, prefix=24):
    return Address(ip=vip, prefix_len=prefix, index=IfIndex(index))


def service(*vips, key=WEB, uid="uid-1", shows=(), local=False, kind="LoadBalancer", version="1", annotation=None):
    namespace, _, name = key.partition("/")
    annotations = {"kube-vip.io/loadbalancerIPs": ",".join(vips) if annotation is None else annotation} if vips or annotation else None
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace, uid=uid, resource_version=version, annotations=annotations),
        spec=ServiceSpec(type=kind, external_traffic_policy="Local" if local else "Cluster"),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=tuple(Ingress(ip=ip, ip_mode="VIP") for ip in shows))),
    )


def endpoints(name, *nodes, of="web", namespace="default", ready=True):
    """An EndpointSlice of this name, with an endpoint on each of these nodes."""
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={"kubernetes.io/service-name": of} if of else None),
        endpoints=tuple(Endpoint(node_name=node, conditions=EndpointConditions(ready=ready)) for node in nodes),
    )


def node(name, *addresses):
    return Node(
        metadata=ObjectMeta(name=name), status=NodeStatus(addresses=tuple(NodeAddress(type="InternalIP", address=ip) for ip in addresses))
    )


class Cache:
    """What a room reads of an informer."""

    def __init__(self):
        self.store = {}
        self.synced = self.current = True


class StatusBook:
    """The port of `StatusWriter`: (uid, what it is to show), in order."""

    def __init__(self):
        self.written = []

    def set_ingress(self, service, entries):
        self.written.append((service.metadata.uid, [entry.ip or entry.hostname for entry in entries]))


class HostBook:
    """The port of `HostWriter`: (uid, the node it is to name), in order."""

    def __init__(self):
        self.written = []

    def set_host(self, service, node):
        self.written.append((service.metadata.uid, node))


class EventBook:
    """The port of `EventWriter`: (reason, uid, message), in order."""

    def __init__(self):
        self.posted = []
        self.warnings = set()

    def post(self, service, uid, *, reason, message, warning=False):
        self.posted.append((reason, uid, message))
        if warning:
            self.warnings.add(reason)

    def post_on_node(self, *, reason, message):
        self.posted.append((reason, "node", message))
        self.warnings.add(reason)

    def told(self):
        return [(reason, uid) for reason, uid, _ in self.posted]


class Kernel:
    """The port of `AddressSocket`: a table of addresses, with the kernel's answers."""

    def __init__(self, log):
        self.log = log
        self.table = {}
        self.refuse = {}  # VIP -> errno
        self.dump_broken = None
        self.dumps = 0
        self.extra_flags = 0  # of what is bound

    def put(self, *addresses):
        for address in addresses:
            self.table[address.ip, address.prefix_len, address.index] = address

    def drop(self, vip):
        self.table = {place: address for place, address in self.table.items() if address.ip != vip}

    def ours(self):
        return {address.ip for address in self.table.values() if address.marked}

    def apply(self, operations):
        return [self.one(operation) for operation in operations]

    def one(self, operation):
        address = operation.address
        place = (address.ip, address.prefix_len, address.index)
        self.log.append((operation.kind, address.ip))
        code = self.refuse.get(address.ip, 0)
        if not code:
            if operation.kind == "delete":
                code = 0 if self.table.pop(place, None) else errno.EADDRNOTAVAIL
            elif operation.kind == "add" and place in self.table:
                code = errno.EEXIST
            else:
                self.table[place] = msgspec.structs.replace(address, flags=address.flags | self.extra_flags)
        return OpResult(operation=operation, errno=code, ext_ack="", seen=self.table.get(place))

    def dump(self):
        self.dumps += 1
        assert self.dumps < TOO_MANY, "the kernel is asked without end"
        if self.dump_broken:
            raise self.dump_broken
        return list(self.table.values())


class FakeSwitch:
    """The port of `Switch`: rules that someone may flush, a place for each VIP, and groups that are alive until then."""

    def __init__(self, log, clock):
        self.log = log
        self.clock = clock
        self.there = False
        self.places = {}
        self.other = frozenset()
        self.alive = {}
        self.nics = {"eth0"}
        self.fails = set()  # names of calls that are refused
        self.unreadable = False
        self.installs = 0
        self.hooked = set()

    def flush(self):
        """Someone else's `nft flush ruleset`."""
        self.there, self.places, self.other, self.alive = False, {}, frozenset(), {}

    def answers(self, vip):
        """Would the kernel let this VIP answer now?"""
        if not self.there:
            return True
        place = self.places.get(vip)
        return vip not in self.other if place is None else self.clock.now() < self.alive.get(place, 0.0)

    @property
    def until(self):
        return self.alive.get("main")

    def _try(self, call):
        if call in self.fails:
            raise SwitchError(f"{call} refused")
        if not self.there and call != "install":
            raise SwitchError("no such table")
        self.log.append((call, ""))

    def install(self, *, nics, vips):
        self.installs += 1
        assert self.installs < TOO_MANY, "the rules are installed without end"
        self._try("install")
        self.there, self.places, self.other, self.alive = True, dict.fromkeys(vips, "silent"), frozenset(), {}
        self.hooked = {*nics, *vips.values()}

    def uninstall(self):
        self._try("uninstall")
        self.flush()

    def covers(self, nic):
        return self.there and nic in self.nics and nic in self.hooked

    def intact(self):
        if self.unreadable:
            raise SwitchError("no answer")
        return self.there

    def admit(self, vips, group):
        self._try("admit")
        self.places.update(dict.fromkeys(vips, group))

    def silence(self, vips):
        self._try("silence")
        self.places.update(dict.fromkeys(vips, "silent"))

    def remove(self, vips):
        self._try("remove")
        for vip in vips:
            self.places.pop(vip, None)

    def others(self, vips):
        self._try("others")
        self.other = frozenset(vips)

    def arm_first(self, group, *, until):
        self._arm("arm_first", group, until)

    def rearm(self, group, *, until):
        if not self.there or self.clock.now() >= self.alive.get(group, 0.0):
            raise Expired("not alive")
        self._arm("rearm", group, until)

    def _arm(self, call, group, until):
        self._try(call)
        self.alive.pop(group, None)
        if self.clock.now() >= until:
            raise Late("too late")
        self.alive[group] = until

    def disarm(self, group=None):
        self._try("disarm")
        for each in [group] if group else [*self.alive]:
            self.alive.pop(each, None)

    def provide(self, group):
        pass

    def owns(self, port):
        return port == 7


class Announcements:
    """The announcer's side that the rooms call."""

    def __init__(self, log):
        self.log = log
        self.active = {}

    def start(self, vip, link):
        self.log.append(("start", vip))
        self.active[vip] = link

    def stop(self, vip):
        if self.active.pop(vip, None) is not None:
            self.log.append(("stop", vip))

    def stop_all(self):
        self.active.clear()

    def announces(self, vip):
        return vip in self.active

    def restart_on(self, link):
        self.log.append(("restart", link.name))


INTERRUPTED = NetlinkError(errno.EINTR, "dump", "all addresses")


def many_services(count):
    return [service(Vip(f"10.0.{n >> 8}.{n & 255}"), key=ServiceKey(f"default/s{n}"), uid=f"uid-{n}") for n in range(1, count + 1)]
