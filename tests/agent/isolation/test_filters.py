"""The filters of both architectures, call by call, as the kernel would run them."""

import errno
import platform
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.isolation import bpf, policy
from muster_agent.isolation.syscalls import AARCH64, X86_64, Architecture
from support.bpf import verdict

PID = 4711
BOTH = pytest.mark.parametrize("known", [X86_64, AARCH64], ids=lambda each: each.machine)
STAGES: dict[str, Callable[[], dict[str, bpf.Rule]]] = {
    "loading beside Landlock": lambda: policy.loading(PID, opens_files=True),
    "loading without Landlock": lambda: policy.loading(PID, opens_files=False),
    "serving": lambda: policy.serving(PID),
    "loading with a compiler": lambda: policy.loading(PID, opens_files=True, makes_code=True),
    "serving with a compiler": lambda: policy.serving(PID, makes_code=True),
}
EACH_STAGE = pytest.mark.parametrize("stage", STAGES)
EPERM = f"errno {errno.EPERM}"

# (x86-64, aarch64) numbers of calls that no stage may allow, from the kernel's own tables.
FORBIDDEN = {
    "open": (2, None), "creat": (85, None), "openat2": (437, 437), "truncate": (76, 45),
    "ftruncate": (77, 46), "fallocate": (285, 47), "pwrite64": (18, 68), "sendfile": (40, 71),
    "splice": (275, 76), "copy_file_range": (326, 285), "rename": (82, None),
    "renameat2": (316, 276), "unlink": (87, None), "unlinkat": (263, 35), "mkdirat": (258, 34),
    "symlinkat": (266, 36), "linkat": (265, 37), "mknodat": (259, 33), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchown": (93, 55), "chdir": (80, 49), "chroot": (161, 51),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "unshare": (272, 97),
    "setns": (308, 268), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "execveat": (322, 281), "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "kcmp": (312, 272),
    "socket": (41, 198), "socketpair": (53, 199), "bind": (49, 200), "listen": (50, 201),
    "connect": (42, 203), "accept": (43, 202), "sendmmsg": (307, 269), "recvmmsg": (299, 243),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "personality": (135, 92),
    "pkey_mprotect": (329, 288), "remap_file_pages": (216, 234), "mlock": (149, 228),
    "mlockall": (151, 230), "setuid": (105, 146), "setgid": (106, 144), "setresuid": (117, 147),
    "setgroups": (116, 159), "capset": (126, 91), "setrlimit": (160, 164), "setsid": (112, 157),
    "setpgid": (109, 154), "reboot": (169, 142), "kexec_load": (246, 104),
    "init_module": (175, 105), "finit_module": (313, 273), "syslog": (103, 116),
    "swapon": (167, 224), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "arch_prctl": (158, None),
    "clock_settime": (227, 112), "settimeofday": (164, 170), "sethostname": (170, 161),
    "timer_create": (222, 107), "timerfd_create": (283, 85), "signalfd4": (289, 74),
    "eventfd2": (290, 19), "pipe2": (293, 59), "dup": (32, 23), "dup3": (292, 24),
    "flock": (73, 32), "fsync": (74, 82), "getxattr": (191, 8), "setxattr": (188, 5),
    "landlock_create_ruleset": (444, 444), "landlock_restrict_self": (446, 446),
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "vmsplice": (278, 75), "tee": (276, 77),
    "close_range": (436, 436), "quotactl": (179, 60), "acct": (163, 89),
}  # fmt: skip


def says(known: Architecture, stage: str, call: str | int, *arguments: int) -> str:
    number = call if isinstance(call, int) else known.numbers[call]
    return verdict(bpf.program(known, STAGES[stage]()), known, number, *arguments)


@BOTH
@EACH_STAGE
def test_no_call_that_reaches_out_of_the_process_is_allowed(
    known: Architecture, stage: str
) -> None:
    numbers = [pair[known is AARCH64] for pair in FORBIDDEN.values()]
    program = bpf.program(known, STAGES[stage]())
    allowed = {
        name
        for (name, _), number in zip(FORBIDDEN.items(), numbers, strict=True)
        if number is not None and verdict(program, known, number) != EPERM
    }
    assert allowed == set()


@BOTH
@EACH_STAGE
@given(number=st.integers(0, 1024), arguments=st.lists(st.integers(0, (1 << 64) - 1), max_size=6))
def test_a_call_that_no_rule_names_ends_with_an_error(
    known: Architecture, stage: str, number: int, arguments: list[int]
) -> None:
    rules = STAGES[stage]()
    named = {known.numbers[name] for name in rules if name in known.numbers}
    said = says(known, stage, number, *arguments)
    assert said in ({"allow", EPERM, f"errno {errno.ENOSYS}"} if number in named else {EPERM})


@BOTH
@EACH_STAGE
def test_a_call_of_another_architecture_ends_the_process(known: Architecture, stage: str) -> None:
    program = bpf.program(known, STAGES[stage]())
    other = AARCH64 if known is X86_64 else X86_64
    i386 = 0x40000003
    for audit in (other.audit, i386, 0):
        assert verdict(program, known, known.numbers["read"], audit=audit) == "kill"


@EACH_STAGE
def test_a_call_of_the_x32_abi_ends_the_process(stage: str) -> None:
    for number in (0x4000_0000, 0x4000_0000 | X86_64.numbers["read"], 0xFFFF_FFFF):
        assert says(X86_64, stage, number) == "kill"


READ, WRITE, EXEC = 1, 2, 4


@BOTH
@EACH_STAGE
@pytest.mark.parametrize("call", ["mmap", "mprotect"])
def test_memory_is_made_executable_for_a_compiler_alone(
    known: Architecture, stage: str, call: str
) -> None:
    expected = "allow" if stage.endswith("with a compiler") else EPERM
    assert says(known, stage, call, 0, 4096, READ | WRITE) == "allow"
    for protection in (EXEC, READ | EXEC, WRITE | EXEC, READ | WRITE | EXEC, 0x1_0000_0000 | EXEC):
        assert says(known, stage, call, 0, 4096, protection) == expected


O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE, O_CLOEXEC = 0o100, 0o1000, 0o2000, 0o20000000, 0o2000000


@BOTH
def test_files_are_opened_for_reading_only_while_landlock_says_which(known: Architecture) -> None:
    beside = "loading beside Landlock"
    assert says(known, beside, "openat", 0, 0, O_CLOEXEC) == "allow"
    for flags in (1, 2, 3, O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE | 2, O_CREAT | O_CLOEXEC):
        assert says(known, beside, "openat", 0, 0, flags) == EPERM
    for stage in ("loading without Landlock", "serving"):
        for call in ("openat", "newfstatat", "statx", "readlinkat", "faccessat", "getdents64"):
            assert says(known, stage, call) == EPERM


CLONE_VM, CLONE_THREAD, CLONE_NEWUSER, CLONE_NEWNET = 0x100, 0x10000, 0x10000000, 0x40000000


@BOTH
@EACH_STAGE
def test_threads_may_be_made_and_processes_not(known: Architecture, stage: str) -> None:
    assert says(known, stage, "clone", CLONE_VM | CLONE_THREAD) == "allow"
    for flags in (0, CLONE_VM, CLONE_THREAD | CLONE_NEWUSER, CLONE_THREAD | CLONE_NEWNET):
        assert says(known, stage, "clone", flags) == EPERM
    # glibc then falls back to clone, whose flags can be looked at.
    assert says(known, stage, "clone3", 0, 88) == f"errno {errno.ENOSYS}"


@BOTH
@EACH_STAGE
def test_only_the_process_itself_is_signalled_renamed_or_slowed(
    known: Architecture, stage: str
) -> None:
    assert says(known, stage, "tgkill", PID, PID + 1, 6) == "allow"
    assert says(known, stage, "tgkill", PID + 1, PID + 1, 9) == EPERM
    assert says(known, stage, "setpriority", 0, 0, 19) == "allow"
    assert says(known, stage, "setpriority", 0, 1, 19) == EPERM
    assert says(known, stage, "setpriority", 2, 0, 19) == EPERM
    assert says(known, stage, "sched_setscheduler", 0, 5) == "allow"  # SCHED_IDLE
    assert says(known, stage, "sched_setscheduler", 0, 1) == EPERM  # SCHED_FIFO
    assert says(known, stage, "sched_setscheduler", 1, 5) == EPERM
    assert says(known, stage, "prctl", 15) == "allow"
    for option in (1, 4, 23, 38, 0x59616D61):  # PDEATHSIG, DUMPABLE, CAPBSET_DROP, …, PTRACER
        assert says(known, stage, "prctl", option) == EPERM


@BOTH
def test_limits_and_filters_may_be_narrowed_only_before_it_serves(known: Architecture) -> None:
    stage = "loading beside Landlock"
    assert says(known, stage, "prlimit64", 0) == "allow"
    assert says(known, stage, "prlimit64", 1) == EPERM
    assert says(known, stage, "seccomp", 1, 1) == "allow"
    assert says(known, stage, "seccomp", 1, 8) == EPERM  # a listener that answers for the kernel
    for call in ("prlimit64", "seccomp"):
        assert says(known, "serving", call, 0) == EPERM
    assert says(known, "serving", "prctl", 22, 2) == EPERM


MSG_OOB, MSG_NOSIGNAL, MSG_FASTOPEN = 1, 0x4000, 0x2000_0000


@BOTH
@EACH_STAGE
def test_nothing_is_sent_but_over_connections_that_there_are(
    known: Architecture, stage: str
) -> None:
    assert says(known, stage, "sendto", 5, 0x7F00, 10, MSG_NOSIGNAL, 0, 0) == "allow"
    assert says(known, stage, "sendto", 5, 0x7F00, 10, 0, 0x7F00, 16) == EPERM
    assert says(known, stage, "sendto", 5, 0x7F00, 10, 0, 1 << 40, 16) == EPERM
    assert says(known, stage, "sendto", 5, 0x7F00, 10, MSG_FASTOPEN) == EPERM
    assert says(known, stage, "sendmsg", 5, 0x7F00, 0) == "allow"
    assert says(known, stage, "sendmsg", 5, 0x7F00, MSG_FASTOPEN) == EPERM
    assert says(known, stage, "setsockopt", 5, 6, 1) == "allow"  # TCP_NODELAY
    for level, option in ((1, 2), (6, 31), (0, 1), (41, 1)):
        assert says(known, stage, "setsockopt", 5, level, option) == EPERM
    assert says(known, stage, "ioctl", 5, 0x5421) == "allow"  # FIONBIO
    for request in (0x5412, 0x541C, 0x8910, 0x40049409):  # TIOCSTI, TIOCLINUX, SIOCGIFNAME, FICLONE
        assert says(known, stage, "ioctl", 5, request) == EPERM
    for command in (4, 6, 8, 1025, 1033):  # F_SETFL, F_SETLK, F_SETOWN, F_NOTIFY, F_ADD_SEALS
        assert says(known, stage, "fcntl", 5, command) == EPERM


@BOTH
def test_serving_allows_nothing_that_loading_did_not(known: Architecture) -> None:
    for name in policy.serving(PID):
        assert name in policy.loading(PID, opens_files=False)


@BOTH
@EACH_STAGE
def test_a_program_fits_the_kernel_and_each_jump_stays_in_it(
    known: Architecture, stage: str
) -> None:
    program = bpf.program(known, STAGES[stage]())
    assert len(program) <= bpf.INSTRUCTIONS_MAX
    for place, (code, if_true, if_false, _) in enumerate(program):
        if code in {bpf.JUMP_EQUAL, bpf.JUMP_AT_LEAST}:
            assert place + 1 + max(if_true, if_false) < len(program)
            assert max(if_true, if_false) < 256
    assert program[-1].code == bpf.RETURN
    assert len(bpf.encode(program)) == 8 * len(program)


def test_the_architecture_of_this_machine_is_known_where_the_suite_runs() -> None:
    assert platform.machine() in {X86_64.machine, AARCH64.machine}
