"""Frames and addresses for tests of the lab itself."""

from __future__ import annotations

import socket
import struct

from lab.lan import Lan

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
OUT_OF_SUBNET = "192.0.2.7"
CLIENT_MAC = "02:00:00:00:00:64"


def unbind(lan: Lan, node: str, ip: str) -> None:
    lan.run(node, "ip", "addr", "del", f"{ip}/{128 if ':' in ip else 32}", "dev", "eth0")


def send_frame(lan: Lan, machine: str, frame: bytes) -> None:
    with lan.ns(machine).socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        sender.send(frame)


def arp_frame(op: int, mac: str, sender: str, target: str) -> bytes:
    raw = bytes.fromhex(mac.replace(":", ""))
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + raw + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)
    return b"\xff" * 6 + raw + b"\x08\x06" + arp + bytes(18)
