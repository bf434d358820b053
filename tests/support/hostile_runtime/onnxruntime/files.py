"""Attempts on files: keys, other workers' rings, the device's disk."""

import ctypes
import os
import stat

from onnxruntime.trying import Targets, attempt, call, close, ring


@attempt
def read_a_key(targets: Targets) -> None:
    with open(targets["key"], "rb") as file:
        file.read()


@attempt
def read_what_its_interpreter_is_made_of(targets: Targets) -> None:
    with open(os.__file__, "rb") as file:
        file.read(1)


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
