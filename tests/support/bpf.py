"""What the kernel would say to a system call: classic BPF over ``struct seccomp_data``, simulated.

Source: ``Documentation/networking/filter.rst`` and ``linux/filter.h``. Written from these, not from
the code that makes the programs.
"""

import struct
from collections.abc import Sequence

from muster_agent.isolation import bpf
from muster_agent.isolation.syscalls import Architecture

DATA = struct.Struct("<iIQ6Q")  # number, architecture, instruction pointer, arguments
STEPS_MAX = 4096


def verdict(
    program: Sequence[tuple[int, int, int, int]],
    architecture: Architecture,
    number: int,
    *arguments: int,
    audit: int | None = None,
) -> str:
    """ "allow", "kill" or the errno as text; ``audit`` is another architecture than its own."""
    padded = [*arguments, *([0] * (6 - len(arguments)))]
    word = audit if audit is not None else architecture.audit
    signed = number - (1 << 32) if number >= 1 << 31 else number
    data = DATA.pack(signed, word, 0, *(each % (1 << 64) for each in padded))
    return _said(run(program, data))


def run(program: Sequence[tuple[int, int, int, int]], data: bytes) -> int:
    accumulator = place = 0
    for _ in range(STEPS_MAX):
        code, if_true, if_false, value = program[place]
        place += 1
        match code:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                assert value % 4 == 0, "the kernel refuses a load that is not aligned"
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:  # BPF_ALU | BPF_AND | BPF_K
                accumulator &= value
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                place += if_true if accumulator == value else if_false
            case 0x35:  # BPF_JMP | BPF_JGE | BPF_K
                place += if_true if accumulator >= value else if_false
            case 0x06:  # BPF_RET | BPF_K
                return value
            case _:
                raise AssertionError(f"an instruction of code {code:#x}")
    raise AssertionError("a program that does not end")


def _said(value: int) -> str:
    action, data = value & 0xFFFF_0000, value & 0xFFFF
    return {bpf.ALLOW: "allow", bpf.KILL_PROCESS: "kill"}.get(action) or f"errno {data}"
