"""Run a program that can't outlive the process that started it.

``python tether.py <parent pid> <program> <argument>…`` asks the kernel to send SIGTERM when the
parent dies, however it dies, and then becomes the program. A file of its own because the request
must be made between fork and exec, where a threaded parent must not run Python.

The program may open as many files as the system lets it: a broker needs one a connection, and the
usual 1,024 would stop a fleet.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run a command that ends when its parent does."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        sys.exit(f"tether: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("tether: the parent is gone already")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.execv(command[0], command)  # noqa: S606 (an absolute path given by the hub)


main()
