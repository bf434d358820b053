"""From rules about system calls to a program of the kernel's classic BPF. Pure.

A call that no rule names ends with EPERM, one of another architecture or ABI with the process.
Source: ``Documentation/userspace-api/seccomp_filter.rst`` and ``linux/bpf_common.h``.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from muster_agent.isolation.syscalls import Architecture

ALLOW = 0x7FFF_0000
KILL_PROCESS = 0x8000_0000
ERRNO = 0x0005_0000
EPERM = 1
LOAD, AND, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
"""ld [k] as 32 bits; and #k; jeq #k; jge #k; ret #k."""
INSTRUCTIONS_MAX = 4096
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_INSTRUCTION = struct.Struct("=HBBI")
_LOW = 0xFFFF_FFFF


class Check(NamedTuple):
    """Passes when ``argument & mask == value``; a mask within 32 bits looks at these only."""

    argument: int
    mask: int
    value: int


class Rule(NamedTuple):
    """What becomes of one call: an error always, or leave to it in any of these cases.

    A case is the checks that all must pass; the empty one always does.
    """

    cases: tuple[tuple[Check, ...], ...] = ((),)
    error: int = EPERM
    """What the call ends with when no case fits."""


class Instruction(NamedTuple):
    """One instruction of a classic BPF program; jumps count from the next one."""

    code: int
    if_true: int
    if_false: int
    value: int


def program(architecture: Architecture, rules: Mapping[str, Rule]) -> list[Instruction]:
    """The filter for these rules, asked in their order; names unknown to it are left out."""
    made = [
        Instruction(LOAD, 0, 0, _ARCHITECTURE_AT),
        Instruction(JUMP_EQUAL, 1, 0, architecture.audit),
        Instruction(RETURN, 0, 0, KILL_PROCESS),
        Instruction(LOAD, 0, 0, _NUMBER_AT),
    ]
    if architecture.other_abi_from is not None:
        made += [
            Instruction(JUMP_AT_LEAST, 0, 1, architecture.other_abi_from),
            Instruction(RETURN, 0, 0, KILL_PROCESS),
        ]
    for name, rule in rules.items():
        number = architecture.numbers.get(name)
        if number is not None:
            body = _body(rule)
            made += [Instruction(JUMP_EQUAL, 0, len(body), number), *body]
    made.append(Instruction(RETURN, 0, 0, ERRNO | EPERM))
    if len(made) > INSTRUCTIONS_MAX:
        raise ValueError(f"a filter of {len(made)} instructions, the kernel takes 4096")
    return made


def encode(instructions: list[Instruction]) -> bytes:
    """An array of ``struct sock_filter``."""
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)


def _body(rule: Rule) -> list[Instruction]:
    made: list[Instruction] = []
    for case in rule.cases:
        made += _case(case)
    if () not in rule.cases:
        made.append(Instruction(RETURN, 0, 0, ERRNO | rule.error))
    return made


def _case(checks: tuple[Check, ...]) -> list[Instruction]:
    """Leave when every check passes, else on to what follows."""
    halves = [half for check in checks for half in _halves(check)]
    made: list[Instruction] = []
    for place, (at, mask, value) in enumerate(halves):
        rest = 3 * (len(halves) - place - 1) + 1  # the other checks and the leave
        made += [
            Instruction(LOAD, 0, 0, at),
            Instruction(AND, 0, 0, mask),
            Instruction(JUMP_EQUAL, 0, rest, value),
        ]
    return [*made, Instruction(RETURN, 0, 0, ALLOW)]


def _halves(check: Check) -> list[tuple[int, int, int]]:
    """(Offset, mask, value) of each 32-bit half that counts; both machines are little-endian."""
    at = _ARGUMENTS_AT + 8 * check.argument
    halves = [(at, check.mask & _LOW, check.value & _LOW)]
    if check.mask >> 32:
        halves.append((at + 4, check.mask >> 32, check.value >> 32))
    return halves
