"""What a hostile model tries, one function an attempt; none does harm when it succeeds.

Each returns when it got its way and raises OSError when it was refused. Where success would do
harm the call is made with arguments that end it early, but only after the question whether it is
allowed at all: an end other than EPERM is then a success.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import socket
import stat
from collections.abc import Callable
from typing import Any

Targets = dict[str, Any]
REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
SUCCEEDED = 1.0
ALL: list[Callable[[Targets], object]] = []
"x".encode("idna")  # Imported now: addresses need it.
_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {
    "openat2": (437, 437), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425), "memfd_create": (319, 279), "unshare": (272, 97),
    "setns": (308, 268), "clone": (56, 220), "execveat": (322, 281), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "prctl": (157, 167), "personality": (135, 92),
    "prlimit64": (302, 261), "add_key": (248, 217), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "shmget": (29, 194),
    "mq_open": (240, 180), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "clock_settime": (227, 112), "seccomp": (317, 277), "fallocate": (285, 47),
    "mount": (165, 40), "capset": (126, 91), "setxattr": (188, 5), "sendmmsg": (307, 269),
    "pkey_mprotect": (329, 288), "timer_create": (222, 107), "sched_setscheduler": (144, 119),
}  # fmt: skip
"""By x86-64 and aarch64."""
_AT = 1 if platform.machine() == "aarch64" else 0


def outcome(attempt: Callable[[Targets], object], targets: Targets) -> float:
    """SUCCEEDED, or minus the error with which it was refused."""
    try:
        attempt(targets)
    except OSError as error:
        return SUCCEEDED if error.errno not in REFUSED else -float(error.errno)
    return SUCCEEDED


def attempt(function: Callable[[Targets], object]) -> Callable[[Targets], object]:
    ALL.append(function)
    return function


def call(name: str, *arguments: Any) -> int:
    ctypes.set_errno(0)
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(_NUMBERS[name][_AT]), *wide))
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def descriptor_of(kind: Callable[[int], bool]) -> int:
    """One that the worker holds, found as a model would: by trying them all."""
    for descriptor in range(256):
        try:
            if kind(descriptor):
                return descriptor
        except OSError:
            continue
    raise OSError(errno.ENOSYS, "it holds no such descriptor")


def is_listener(descriptor: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=descriptor) as end:
        try:
            listens = end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            return listens and end.family == socket.AF_INET
        finally:
            end.detach()


def ring(targets: Targets) -> int:
    return descriptor_of(lambda each: os.fstat(each).st_ino == targets["ring_inode"])


# Files


@attempt
def read_a_key(targets: Targets) -> None:
    with open(targets["key"], "rb") as file:
        file.read()


@attempt
def read_a_key_out_of_the_bundle_by_dots(targets: Targets) -> None:
    with open(os.path.join(targets["bundle"], "..", "secret", "key.pem"), "rb") as file:
        file.read()


@attempt
def read_a_key_by_a_link_in_the_bundle(targets: Targets) -> None:
    with open(os.path.join(targets["bundle"], "link"), "rb") as file:
        file.read()


@attempt
def read_a_key_by_its_own_root(targets: Targets) -> None:
    with open("/proc/self/root" + targets["key"], "rb") as file:
        file.read()


@attempt
def read_a_key_by_the_supervisors_root(targets: Targets) -> None:
    with open(f"/proc/{targets['victim']}/root{targets['key']}", "rb") as file:
        file.read()


@attempt
def read_a_key_by_a_handle(targets: Targets) -> None:
    handle = ctypes.create_string_buffer((128).to_bytes(4, "little") + bytes(4 + 128))
    mount = ctypes.c_int()
    call("name_to_handle_at", -100, targets["key"].encode(), handle, ctypes.byref(mount), 0)


@attempt
def read_a_key_by_openat2(targets: Targets) -> None:
    close(call("openat2", -100, targets["key"].encode(), bytes(24), 24))


@attempt
def ask_the_kernels_ring_to_read_it(targets: Targets) -> None:
    close(call("io_uring_setup", 4, ctypes.create_string_buffer(120)))


@attempt
def list_the_directory_of_keys(targets: Targets) -> None:
    os.listdir(os.path.dirname(targets["key"]))


@attempt
def read_the_systems_accounts(targets: Targets) -> None:
    with open("/etc/passwd", "rb") as file:
        file.read()


@attempt
def read_anothers_environment(targets: Targets) -> None:
    with open(f"/proc/{targets['victim']}/environ", "rb") as file:
        file.read()


@attempt
def open_anothers_memory(targets: Targets) -> None:
    close(os.open(f"/proc/{targets['victim']}/mem", os.O_RDWR))


@attempt
def read_anothers_map(targets: Targets) -> None:
    with open(f"/proc/{targets['victim']}/maps", "rb") as file:
        file.read()


@attempt
def list_anothers_descriptors(targets: Targets) -> None:
    os.listdir(f"/proc/{targets['victim']}/fd")


@attempt
def list_the_processes(targets: Targets) -> None:
    os.listdir("/proc")


@attempt
def write_a_file(targets: Targets) -> None:
    close(os.open(targets["scratch"] + "/written", os.O_WRONLY | os.O_CREAT, 0o600))


@attempt
def write_into_the_bundle(targets: Targets) -> None:
    close(os.open(targets["bundle"] + "/written", os.O_WRONLY | os.O_CREAT, 0o600))


@attempt
def make_a_file_without_a_name(targets: Targets) -> None:
    close(os.open("/tmp", os.O_RDWR | os.O_TMPFILE, 0o600))


@attempt
def append_to_a_key(targets: Targets) -> None:
    close(os.open(targets["key"], os.O_WRONLY | os.O_APPEND))


@attempt
def write_into_another_workers_ring(targets: Targets) -> None:
    close(os.open(targets["other_ring"], os.O_RDWR))


@attempt
def remove_a_file(targets: Targets) -> None:
    os.unlink(targets["scratch"] + "/not there")


@attempt
def rename_a_file(targets: Targets) -> None:
    os.rename(targets["scratch"] + "/not there", targets["scratch"] + "/nor there")


@attempt
def make_a_directory(targets: Targets) -> None:
    os.mkdir(targets["scratch"])


@attempt
def make_a_link_to_a_key(targets: Targets) -> None:
    os.symlink(targets["key"], targets["scratch"] + "/there is/no such directory")


@attempt
def make_a_hard_link_to_a_key(targets: Targets) -> None:
    os.link(targets["key"], targets["scratch"] + "/there is/no such directory")


@attempt
def change_a_keys_mode(targets: Targets) -> None:
    os.chmod(targets["key"], 0o600)


@attempt
def truncate_a_key(targets: Targets) -> None:
    os.truncate(targets["key"], targets["key_bytes"])


@attempt
def truncate_its_ring(targets: Targets) -> None:
    os.ftruncate(ring(targets), targets["ring_bytes"])


@attempt
def punch_a_hole_into_its_ring(targets: Targets) -> None:
    call("fallocate", ring(targets), 0x3, targets["ring_bytes"] - 1, 1)


@attempt
def put_an_attribute_on_a_file(targets: Targets) -> None:
    call("setxattr", targets["key"].encode(), b"user.x", b"1", 1, 0)


@attempt
def make_a_device(targets: Targets) -> None:
    os.mknod(targets["scratch"] + "/there is/no such directory", 0o600 | stat.S_IFCHR, 0x103)


@attempt
def mount_something(targets: Targets) -> None:
    call("mount", b"none", b"/no such directory", b"tmpfs", 0, None)


@attempt
def change_its_root(targets: Targets) -> None:
    os.chroot("/no such directory")


@attempt
def make_a_file_in_memory(targets: Targets) -> None:
    close(call("memfd_create", b"x", 0))


@attempt
def watch_files(targets: Targets) -> None:
    close(call("inotify_init1", 0))


# Processes


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


# The network


@attempt
def open_a_tcp_socket(targets: Targets) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


@attempt
def connect_over_tcp(targets: Targets) -> None:
    socket.create_connection(("127.0.0.1", targets["sink_port"]), 1).close()


@attempt
def open_a_udp_socket(targets: Targets) -> None:
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()


@attempt
def open_a_unix_socket(targets: Targets) -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()


@attempt
def make_a_pair_of_sockets(targets: Targets) -> None:
    for end in socket.socketpair():
        end.close()


@attempt
def open_a_netlink_socket(targets: Targets) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


@attempt
def open_a_packet_socket(targets: Targets) -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


@attempt
def open_the_kernels_ciphers(targets: Targets) -> None:
    socket.socket(38, socket.SOCK_SEQPACKET, 0).close()


@attempt
def connect_through_the_slots_listener(targets: Targets) -> None:
    """A listener that was shut down is a socket like any other: fast open connects it."""
    fast_open = 0x20000000
    descriptor = descriptor_of(is_listener)
    with socket.socket(fileno=descriptor) as end:
        try:
            end.sendto(b"x", fast_open, ("127.0.0.1", targets["sink_port"]))
        finally:
            end.detach()


@attempt
def send_many_at_once(targets: Targets) -> None:
    call("sendmmsg", descriptor_of(is_listener), None, 0, 0)


@attempt
def shorten_the_slots_queue(targets: Targets) -> None:
    with socket.socket(fileno=descriptor_of(is_listener)) as end:
        try:
            end.listen(128)
        finally:
            end.detach()


@attempt
def filter_the_slots_connections(targets: Targets) -> None:
    with socket.socket(fileno=descriptor_of(is_listener)) as end:
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        finally:
            end.detach()


# The kernel


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


# Last: without a filter this ends the slot's service over TCP.


@attempt
def end_the_slots_service(targets: Targets) -> None:
    with socket.socket(fileno=descriptor_of(is_listener)) as end:
        try:
            end.shutdown(socket.SHUT_RDWR)
        finally:
            end.detach()
