"""A LAN of network namespaces: nodes and a client on the VIP LAN, the nodes also on a management LAN.

In: the number of nodes. Out: a `Lan` while its context is open, with one `NetNamespace` per machine.

    current namespace   br-lan (no address)             br-api 10.99.0.1/24 (the API server listens here)
    n1 .. nN            eth0 10.10.0.(10+i)/24          api0 10.99.0.(10+i)/24
                        eth0 fd00:10::(10+i)/64         default routes: on-link by eth0
    client              eth0 10.10.0.100/24, fd00:10::100/64

Must not: run in the host's namespace (refused), know of kvip, or leave anything behind when closed.
Bridges forward at once (no STP, no delay, no snooping) and past nf_tables, addresses are usable at once (no DAD),
MACs are always the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from types import TracebackType

import msgspec

from lab.netns import LabError, NetNamespace, require_private_namespace

API_IP = "10.99.0.1"
"""Where the API server of the lab listens, on br-api."""
CLIENT = "client"
CLIENT_IP = "10.10.0.100"
CLIENT_IP6 = "fd00:10::100"
MAX_NODES = 80

_BRIDGE = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
_BRIDGE_NF = ("bridge/bridge-nf-call-arptables", "bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")
_MACHINE_SYSCTLS = {
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/dad_transmits": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/router_solicitations": "0",
    # A new namespace inherits IPv4 settings from the host (net.core.devconf_inherit_init_net=0): say what is meant.
    **{
        f"ipv4/conf/{scope}/{key}": "0" for scope in ("all", "default") for key in ("rp_filter", "arp_ignore", "arp_announce", "arp_notify")
    },
}


class NicAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address as `ip -j addr` shows it. `valid_s` None = forever."""

    nic: str
    ip: str
    prefix_len: int
    label: str = ""
    valid_s: int | None = None
    deprecated: bool = False


def node_ip(node: str) -> str:
    """A node's IPv4 address on the VIP LAN: n1 -> 10.10.0.11."""
    return f"10.10.0.{10 + int(node[1:])}"


def node_ip6(node: str) -> str:
    """A node's IPv6 address on the VIP LAN: n1 -> fd00:10::11."""
    return f"fd00:10::{10 + int(node[1:])}"


def api_ip(node: str) -> str:
    """A node's address on the management LAN: n1 -> 10.99.0.11."""
    return f"10.99.0.{10 + int(node[1:])}"


def _host_mac(machine: str, *, api: bool = False) -> str:
    number = 0x64 if machine == CLIENT else int(machine[1:])
    return f"02:00:00:00:{int(api):02x}:{number:02x}"


class Lan:
    """The LAN; a context manager. Methods take names of machines: "n1", "client", "lab" (the current namespace)."""

    def __init__(self, nodes: int = 2) -> None:
        if not 1 <= nodes <= MAX_NODES:
            raise LabError(f"a LAN has 1 to {MAX_NODES} nodes, not {nodes}")
        self.nodes: tuple[str, ...] = tuple(f"n{number}" for number in range(1, nodes + 1))
        self._spaces: dict[str, NetNamespace] = {}

    def __enter__(self) -> Lan:
        require_private_namespace()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._build()
            undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _build(self) -> None:
        lab = self._spaces["lab"] = NetNamespace.current("lab")
        for machine in (*self.nodes, CLIENT):
            space = self._spaces[machine] = NetNamespace.create(machine)
            space.sysctl(_MACHINE_SYSCTLS)
        # With br_netfilter loaded, nf_tables rules of this namespace would see bridged frames: one sysctl per namespace.
        lab.sysctl(dict.fromkeys((key for key in _BRIDGE_NF if os.path.exists(f"/proc/sys/net/{key}")), "0"))
        before = lab.call(lambda: _read("/proc/sys/net/ipv6/conf/default/disable_ipv6"))
        lab.sysctl({"ipv6/conf/default/disable_ipv6": "1"})  # bridges and ports stay mute: no MLD, no link-local addresses
        try:
            lab.ip_batch(self._lab_lines())
        finally:
            lab.sysctl({"ipv6/conf/default/disable_ipv6": before})
        for node in self.nodes:
            lines = ["link set lo up", "link set api0 up", f"addr add {api_ip(node)}/24 dev api0"]
            self._spaces[node].ip_batch([*lines, "link set eth0 up", f"addr add {node_ip(node)}/24 dev eth0", *self._after_up(node)])
        self._spaces[CLIENT].ip_batch(
            ["link set lo up", "link set eth0 up", f"addr add {CLIENT_IP}/24 dev eth0", f"addr add {CLIENT_IP6}/64 dev eth0 nodad"]
        )

    def _lab_lines(self) -> list[str]:
        lines = ["link set lo up"]
        for number, bridge in enumerate(("br-lan", "br-api")):
            lines += [f"link add {bridge} address 02:00:00:00:ff:{number:02x} {_BRIDGE}", f"link set {bridge} up"]
        lines.append(f"addr add {API_IP}/24 dev br-api")
        for machine in (*self.nodes, CLIENT):
            wires = [("eth0", "br-lan", _host_mac(machine))]
            if machine != CLIENT:
                wires.append(("api0", "br-api", _host_mac(machine, api=True)))
            for nic, bridge, mac in wires:
                port = f"{machine}-{nic}"
                peer = f"peer name {nic} address {mac} netns {self._spaces[machine].path}"
                lines += [f"link add name {port} type veth {peer}", f"link set {port} master {bridge} up"]
        return lines

    @staticmethod
    def _after_up(node: str) -> list[str]:
        """What the kernel forgets when eth0 is set down: IPv6 addresses and routes (ip-sysctl: keep_addr_on_down)."""
        return [f"addr add {node_ip6(node)}/64 dev eth0 nodad", "route add default dev eth0", "route add ::/0 dev eth0"]

    def close(self) -> None:
        """Take the LAN down: bridges, wires, namespaces. Processes inside must have ended; idempotent."""
        lab = self._spaces.get("lab")
        if lab is not None and not lab.closed:
            ports = [f"{machine}-{nic}" for machine in (*self.nodes, CLIENT) for nic in ("eth0", "api0")]
            # The devices go at once; those of a closed namespace only when the kernel's cleanup worker comes to it.
            lines = "\n".join(f"link del {name}" for name in (*ports, "br-lan", "br-api"))
            lab.run("ip", "-force", "-batch", "-", input_text=lines + "\n", check=False)
        for space in self._spaces.values():
            space.close()

    def ns(self, machine: str) -> NetNamespace:
        """The namespace of a machine. `LabError` for a name that is not on this LAN."""
        try:
            return self._spaces[machine]
        except KeyError:
            raise LabError(f"no machine {machine!r} on this LAN (have: {', '.join(self._spaces) or 'none, not entered'})") from None

    def run(self, machine: str, *command: str, timeout_s: float = 10.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine to its end; `LabError` when it fails and `check` is set."""
        return self.ns(machine).run(*command, timeout_s=timeout_s, check=check)

    def mac(self, machine: str, nic: str = "eth0") -> str:
        """The MAC that a machine was given, as "02:00:00:00:00:01"."""
        self.ns(machine)
        return _host_mac(machine, api=nic == "api0")

    def addresses(self, machine: str, nic: str = "") -> list[NicAddress]:
        """All addresses of a machine, or of one NIC of it, as ip(8) shows them now."""
        listing = json.loads(self.run(machine, "ip", "-j", "addr", "show", *(("dev", nic) if nic else ())).stdout or "[]")
        return [_nic_address(link["ifname"], info) for link in listing if link for info in link["addr_info"]]

    def neighbour(self, machine: str, ip: str) -> str | None:
        """The MAC that a machine's neighbour table (ARP cache, IPv6 neighbours) has for `ip` on eth0; None without a valid entry."""
        listing = json.loads(self.run(machine, "ip", "-j", "neigh", "show", "to", ip, "dev", "eth0").stdout or "[]")
        return next((entry["lladdr"] for entry in listing if "lladdr" in entry and "FAILED" not in entry.get("state", ())), None)

    def reaches(self, machine: str, ip: str, *, port: int = 9, timeout_s: float = 3.0) -> bool:
        """Whether a TCP connection from a machine to `ip` is answered: accepted, or refused by the machine that has the address."""
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with self.ns(machine).socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            try:
                connection.connect((ip, port))
            except ConnectionRefusedError:
                return True
            except OSError:  # timed out, or no route or neighbour
                return False
            return True

    def cut_api(self, node: str, cut: bool = True) -> None:
        """Cut a node off from the management LAN, or join it again. The switch port is disabled: api0 keeps its carrier."""
        self._port_state(f"{node}-api0", forwarding=not cut)

    def cut_lan(self, machine: str, cut: bool = True) -> None:
        """The same on the VIP LAN: frames are lost, eth0 keeps its carrier."""
        self._port_state(f"{machine}-eth0", forwarding=not cut)

    def _port_state(self, port: str, *, forwarding: bool) -> None:
        # BR_STATE_* of linux/if_bridge.h. bridge(8), because a state set by `ip link ... type bridge_slave` does not last.
        self.run("lab", "bridge", "link", "set", "dev", port, "state", "3" if forwarding else "0")

    def pull_cable(self, machine: str, pulled: bool = True) -> None:
        """Take eth0's carrier away, or give it back: IFF_UP stays, IFF_LOWER_UP goes; addresses stay."""
        self.run("lab", "ip", "link", "set", f"{machine}-eth0", "down" if pulled else "up")

    def nic_down(self, node: str) -> None:
        """`ip link set eth0 down` on a node: the kernel drops its IPv6 addresses and routes."""
        self.run(node, "ip", "link", "set", "eth0", "down")

    def nic_up(self, node: str) -> None:
        """Undo `nic_down`: eth0 up, the node's own IPv6 address and default routes back."""
        self.ns(node).ip_batch(["link set eth0 up", *self._after_up(node)])


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _nic_address(nic: str, info: dict[str, object]) -> NicAddress:
    valid = info.get("valid_life_time")
    return NicAddress(
        nic=nic,
        ip=str(info["local"]),
        prefix_len=int(str(info["prefixlen"])),
        label=str(info.get("label", "")),
        valid_s=int(str(valid)) if valid is not None and valid != 0xFFFFFFFF else None,
        deprecated=bool(info.get("deprecated", False)),
    )
