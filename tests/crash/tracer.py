"""What a traced story did to the disk: ``strace`` run and read.

strace numbers an injection's calls per system call and process. So one traced parent forks a child
for each crash, and the child makes void calls first, just so many that the real one it shall die
at is the number strace waits for. No root is needed.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHANGING = (
    "openat", "write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate",
    "fallocate", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "copy_file_range", "sendfile", "msync",
    "syncfs",
)  # fmt: skip
"""System calls through which a story may change the disk; those it uses are found by tracing it."""


def deadly_number(name: str) -> int:
    """The call, void ones included, at which a child is killed: more than any story makes.

    The parent's own calls count for the parent, and its imports open many files.
    """
    return 6000 if name == "openat" else 400


HERE = Path(__file__).parent
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<[^>]*>)?(?: .*)?$")


@dataclass(frozen=True)
class Call:
    """One system call that succeeded; ``number`` counts calls of this name, failed ones too."""

    name: str
    number: int
    arguments: str
    result: int

    def changes(self, directory: Path) -> bool:
        """Whether it may change what is in ``directory``."""
        if self.name == "openat" and "O_CREAT" not in self.arguments:
            return False
        return self.name in CHANGING and hexed(directory) in self.arguments


def hexed(path: Path) -> str:
    """``path`` as it stands in the arguments of a call."""
    return "".join(f"\\x{byte:02x}" for byte in bytes(path))


def strace(options: list[str], script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of this folder under strace."""
    return run(
        "strace", "-f", "-qq", *options, sys.executable, "-P", str(HERE / script), *arguments
    )


def run(*command: str) -> subprocess.CompletedProcess[str]:
    roots = [HERE.parent, *(HERE.parents[1] / p for p in ("protocol", "agent"))]
    own = {"PYTHONPATH": ":".join(map(str, roots)), "PYTHONHASHSEED": "0"}
    return subprocess.run(
        command, env=os.environ | own, capture_output=True, text=True, check=False, timeout=600
    )


def check(story: str, bug: str, directories: list[Path]) -> list[str]:
    """What is wrong with the first of these disks on which an agent with that bug fails."""
    done = run(
        *(sys.executable, "-P", str(HERE / "stories.py"), "check", story, bug),
        *map(str, directories),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def trace(story: str, directory: Path, log: Path, *, bug: str = "") -> list[Call]:
    """Live ``story`` in ``directory``; what the process that lived it did there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    done = strace(
        ["--seccomp-bpf", "-y", "-xx", "-s", "1000000", "-o", str(log),
         "-e", f"trace={','.join(CHANGING)},close"],
        "stories.py", "trace", story, str(directory), bug,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return list(read(log, int(done.stdout)))


def kill(story: str, cases: dict[str, Path]) -> dict[str, bool]:
    """Live ``story`` in each directory, killed at the call ``name:number`` that is its key.

    Returns which of the processes died of it.
    """
    names = sorted({case.split(":")[0] for case in cases})
    deadly = [f"inject={name}:signal=KILL:when={deadly_number(name)}" for name in names]
    done = strace(
        ["-o", "/dev/null", "-e", f"trace={','.join(names)}",
         *(option for each in deadly for option in ("-e", each))],
        "stories.py", "kill", story, *(f"{case}:{at}" for case, at in cases.items()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return {case: f"{case} died" in done.stdout.splitlines() for case in cases}


def read(log: Path, pid: int) -> list[Call]:
    calls = []
    numbers: dict[str, int] = {}
    for line in log.read_text(encoding="ascii").splitlines():
        if not line.startswith(f"{pid} "):
            continue
        found = _LINE.match(line)
        if found is None:
            assert "+++" in line or "---" in line or "= -1 " in line or "= ?" in line, line[:200]
            name = line.split("(", 1)[0].split()[-1]
            numbers[name] = numbers.get(name, 0) + 1
            continue
        _, name, arguments, result = found.groups()
        numbers[name] = numbers.get(name, 0) + 1
        if int(result) >= 0:
            calls.append(Call(name, numbers[name], arguments, int(result)))
    return calls
