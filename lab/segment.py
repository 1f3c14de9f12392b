"""A second segment for some machines of a LAN: one more bridge, and a NIC `eth1` on each machine, for as long as a context is open.

    current namespace   br-two (no address)
    n1 .. nN            eth1 10.20.0.(10+i)/24, fd00:20::(10+i)/64
    client              eth1 10.20.0.100/24, fd00:20::100/64

Must not know of kvip, or leave anything behind when closed.
"""

from __future__ import annotations

import contextlib
from types import TracebackType

from lab.lan import CLIENT, Lan

NIC = "eth1"


def _number(machine: str) -> int:
    return 100 if machine == CLIENT else 10 + int(machine[1:])


class SecondSegment:
    """The segment; a context manager. `nodes`: those with a NIC on it; the client always has one."""

    def __init__(self, lan: Lan, *nodes: str) -> None:
        self._lan = lan
        self.machines = (*nodes, CLIENT)

    def __enter__(self) -> SecondSegment:
        with contextlib.ExitStack() as undo:
            undo.callback(self._close)
            lines = [
                "link add br-two address 02:00:00:00:ff:02 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                "link set br-two up",
            ]
            for machine in self.machines:
                port = f"{machine}-{NIC}"
                peer = f"peer name {NIC} address {self.mac(machine)} netns {self._lan.ns(machine).path}"
                lines += [f"link add name {port} type veth {peer}", f"link set {port} master br-two up"]
            self._lan.ns("lab").ip_batch(lines)
            for machine in self.machines:
                self.restore(machine)
            undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        lines = "\n".join(f"link del {name}" for name in (*(f"{machine}-{NIC}" for machine in self.machines), "br-two"))
        self._lan.ns("lab").run("ip", "-force", "-batch", "-", input_text=lines + "\n", check=False)

    def mac(self, machine: str) -> str:
        """The MAC of a machine's eth1."""
        return f"02:00:00:00:02:{_number(machine):02x}"

    def restore(self, machine: str) -> None:
        """Its own addresses, where they are missing."""
        number = _number(machine)
        self._lan.ns(machine).ip_batch(
            [f"link set {NIC} up", f"addr replace 10.20.0.{number}/24 dev {NIC}", f"addr replace fd00:20::{number}/64 dev {NIC} nodad"]
        )

    def flush(self, machine: str) -> None:
        """`ip addr flush`, and its own addresses back."""
        self._lan.run(machine, "ip", "addr", "flush", "dev", NIC)
        self.restore(machine)

    def pull_cable(self, machine: str, pulled: bool = True) -> None:
        """Take eth1's carrier away, or give it back."""
        self._lan.run("lab", "ip", "link", "set", f"{machine}-{NIC}", "down" if pulled else "up")

    def remove_nic(self, machine: str) -> None:
        """Take eth1 out of the machine, with every address."""
        self._lan.run(machine, "ip", "link", "set", "dev", NIC, "netns", self._lan.ns("lab").path, "name", f"{machine}-out1")

    def return_nic(self, machine: str) -> None:
        """Undo `remove_nic`."""
        self._lan.run("lab", "ip", "link", "set", "dev", f"{machine}-out1", "netns", self._lan.ns(machine).path, "name", NIC)
        self.restore(machine)
