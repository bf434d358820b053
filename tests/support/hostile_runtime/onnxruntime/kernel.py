"""Attempts on the kernel's rarer doors."""

import fcntl
import mmap

from onnxruntime.trying import Targets, attempt, call, close


@attempt
def turn_data_into_code(targets: Targets) -> None:
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC):
        pass


@attempt
def turn_a_file_into_code(targets: Targets) -> None:
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC):
        pass


@attempt
def turn_memory_into_code_by_a_key(targets: Targets) -> None:
    call("pkey_mprotect", 0, 0, 4, -1)


@attempt
def hand_a_program_to_the_kernel(targets: Targets) -> None:
    call("bpf", 0, None, 0)


@attempt
def measure_others(targets: Targets) -> None:
    call("perf_event_open", None, 0, -1, -1, 0)


@attempt
def handle_page_faults(targets: Targets) -> None:
    close(call("userfaultfd", 0))


@attempt
def leave_a_key_in_the_kernel(targets: Targets) -> None:
    call("add_key", b"user", None, None, 0, -3)


@attempt
def share_memory(targets: Targets) -> None:
    call("shmget", 0x6D75, 0, 0)


@attempt
def open_a_message_queue(targets: Targets) -> None:
    call("mq_open", b"not there", 0, 0, None)


@attempt
def set_the_clock(targets: Targets) -> None:
    call("clock_settime", 0, None)


@attempt
def answer_for_the_kernel(targets: Targets) -> None:
    call("seccomp", 1, 8, None)


@attempt
def watch_every_file(targets: Targets) -> None:
    close(call("fanotify_init", 0, 0))


@attempt
def type_into_a_terminal(targets: Targets) -> None:
    fcntl.ioctl(0, 0x5412, b"x")
