"""Attempts on other processes and on what holds the model's own."""

import ctypes
import os
import signal

from onnxruntime.trying import Targets, attempt, call, close


@attempt
def fork(targets: Targets) -> None:
    child = call("clone", signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@attempt
def run_a_program(targets: Targets) -> None:
    os.execv("/no such program", ["x"])


@attempt
def run_a_program_by_its_descriptor(targets: Targets) -> None:
    call("execveat", -1, b"no such program", None, None, 0)


@attempt
def signal_the_supervisor(targets: Targets) -> None:
    os.kill(targets["supervisor"], 0)


@attempt
def signal_everybody(targets: Targets) -> None:
    os.kill(targets["victim"], signal.SIGCONT)


@attempt
def signal_a_thread_of_the_supervisor(targets: Targets) -> None:
    call("tgkill", targets["supervisor"], targets["supervisor"], 0)


@attempt
def queue_a_signal(targets: Targets) -> None:
    info = ctypes.create_string_buffer(128)
    ctypes.memmove(info, (0).to_bytes(8, "little") + (-1).to_bytes(4, "little", signed=True), 12)
    call("rt_sigqueueinfo", targets["victim"], 0, info)


@attempt
def hold_a_process_by_descriptor(targets: Targets) -> None:
    close(call("pidfd_open", targets["victim"], 0))


@attempt
def signal_by_descriptor(targets: Targets) -> None:
    call("pidfd_send_signal", -1, 0, None, 0)


@attempt
def take_anothers_descriptor(targets: Targets) -> None:
    call("pidfd_getfd", -1, 0, 0)


@attempt
def trace_a_process(targets: Targets) -> None:
    seize, detach = 0x4206, 17
    call("ptrace", seize, targets["victim"], 0, 0)
    try:
        call("ptrace", detach, targets["victim"], 0, 0)
    except OSError:
        pass


@attempt
def read_anothers_memory(targets: Targets) -> None:
    call("process_vm_readv", targets["victim"], None, 0, None, 0, 0)


@attempt
def write_anothers_memory(targets: Targets) -> None:
    call("process_vm_writev", targets["victim"], None, 0, None, 0, 0)


@attempt
def compare_with_another(targets: Targets) -> None:
    call("kcmp", os.getpid(), targets["victim"], 1, 0, 0)


@attempt
def outlive_the_supervisor(targets: Targets) -> None:
    call("prctl", 1, signal.SIGKILL, 0, 0, 0)


@attempt
def let_others_trace_it(targets: Targets) -> None:
    call("prctl", 4, 1, 0, 0, 0)


@attempt
def make_all_readable_memory_code(targets: Targets) -> None:
    call("personality", 0xFFFFFFFF)


@attempt
def take_anothers_limits_away(targets: Targets) -> None:
    call("prlimit64", targets["victim"], 7, None, ctypes.create_string_buffer(16))


@attempt
def change_its_own_limits(targets: Targets) -> None:
    call("prlimit64", 0, 7, None, ctypes.create_string_buffer(16))


@attempt
def slow_another_down(targets: Targets) -> None:
    os.setpriority(os.PRIO_PROCESS, targets["victim"], 0)


@attempt
def bind_another_to_a_core(targets: Targets) -> None:
    os.sched_setaffinity(targets["victim"], os.sched_getaffinity(0))


@attempt
def run_before_everybody(targets: Targets) -> None:
    call("sched_setscheduler", targets["victim"], 0, bytes(4))


@attempt
def enter_a_namespace(targets: Targets) -> None:
    call("setns", -1, 0)


@attempt
def make_a_namespace(targets: Targets) -> None:
    call("unshare", 0x200)  # CLONE_FS, which anyone may


@attempt
def take_rights(targets: Targets) -> None:
    call("capset", None, None)
