"""Socket filters of the kernel: classic BPF programs made of a row of checks.

In: checks on the bytes of a packet or datagram. Out: what passes all of them is kept or dropped before it is queued. It decides nothing
about what to keep.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final

# linux/bpf_common.h: BPF_LD | BPF_ABS with BPF_B, BPF_H or BPF_W, in network order; BPF_JMP | BPF_K with BPF_JEQ, BPF_JGT or BPF_JGE.
BYTE, HALF, WORD = 0x30, 0x28, 0x20
EQUAL, GREATER, AT_LEAST = 0x15, 0x25, 0x35
_RETURN: Final = 0x06
_SO_ATTACH_FILTER: Final = 26
DROP: Final = 0
WHOLE: Final = 0xFFFFFFFF

Check = tuple[int, int, int, int, bool]
"""How to load, from where, how to compare, with what, and whether that must hold."""


def attach(sock: socket.socket, checks: Sequence[Check], *, matched: int, others: int) -> None:
    """Keep so many bytes (`DROP`, `WHOLE`) of what passes every check, and of the others (socket(7), SO_ATTACH_FILTER). Raises OSError."""
    instructions = program(checks, matched=matched, others=others)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(instructions) // 8, ctypes.addressof(buffer)))


def program(checks: Sequence[Check], *, matched: int, others: int) -> bytes:
    """The program: what of a packet is kept that passes every check, and of the others."""
    others_at = 2 * len(checks) + 1
    instructions: list[bytes] = []
    for number, (load, offset, compare, value, must_hold) in enumerate(checks):
        to_others = others_at - (2 * number + 2)
        instructions.append(struct.pack("HBBI", load, 0, 0, offset))
        instructions.append(struct.pack("HBBI", compare, *((0, to_others) if must_hold else (to_others, 0)), value))
    instructions += [struct.pack("HBBI", _RETURN, 0, 0, matched), struct.pack("HBBI", _RETURN, 0, 0, others)]
    return b"".join(instructions)
