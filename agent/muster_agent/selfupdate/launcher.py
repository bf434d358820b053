"""``muster-agent-launch``: runs the agent of the side that the record names.

It stays as the installer put it. ``run`` starts the side on trial when there is one, notes the
start before it begins, and leaves a guard behind: a process that ends the agent when no word of
health has come within the trial's time. Whatever starts the service again (systemd's
``Restart=always``) then finds the fault noted and the launcher goes back. Every other command goes
to the side that is in place.

Root gets the installer's own agent always: what lies in the agent's directory can be written by the
agent's user, and must not run as another.
"""

import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

from muster_agent.selfupdate import record
from muster_agent.selfupdate.record import AgentTrial, Record, Side

TRIAL_SECONDS = 300.0
STOP_SECONDS = 45.0
"""After SIGTERM; then it is killed."""
TRIAL_OPTION = "--trial-seconds"
SIDE_VARIABLE = "MUSTER_AGENT_SIDE"
FACTORY_VARIABLE = "MUSTER_AGENT_FACTORY"
"""The installer's Python, which has pip."""
DIRECTORY = "/var/lib/muster"
_START = "from muster_agent.entry import agent; agent()"


def main() -> None:
    """``muster-agent-launch [--trial-seconds N] COMMAND …``: as ``muster-agent COMMAND …``."""
    arguments = sys.argv[1:]
    seconds = TRIAL_SECONDS
    if arguments[:1] == [TRIAL_OPTION] and len(arguments) > 1:
        seconds = float(arguments[1])
        arguments = arguments[2:]
    directory = directory_in(arguments)
    side: Side = "factory"
    if not _foreign(directory):
        side = _start(directory, seconds) if arguments[:1] == ["run"] else _in_place(directory)
    _become(directory, side, arguments)


def launched() -> bool:
    """Whether a launcher has started this agent, and so can switch to another release of it."""
    return SIDE_VARIABLE in os.environ


def directory_in(arguments: list[str]) -> Path:
    """What ``--dir`` names among a command's arguments, or where it lies by default."""
    for place, argument in enumerate(arguments):
        if argument == "--dir" and place + 1 < len(arguments):
            return Path(arguments[place + 1])
        if argument.startswith("--dir="):
            return Path(argument.removeprefix("--dir="))
    return Path(DIRECTORY)


def _foreign(directory: Path) -> bool:
    """Whether somebody else may have written what lies there."""
    try:
        return directory.stat().st_uid != os.geteuid()
    except OSError:
        return True


def _in_place(directory: Path) -> Side:
    try:
        found = record.load(directory) or Record()
    except OSError:
        return "factory"
    return found.side


def _start(directory: Path, seconds: float) -> Side:
    """The side to run now; noted before it does. A disk that can't note it starts no trial."""
    try:
        kept = record.change(directory, lambda found: record.begin(found)[0])
    except OSError as error:
        _say(f"{directory}: {error.strerror}: no update of the agent is tried")
        return _in_place(directory)
    if kept.trial is None:
        return kept.side
    if not _python(directory, kept.trial.side).exists():
        _taken_back(directory, "its files are gone")
        return kept.side
    _say(f"agent {kept.trial.version} is on trial, start {kept.trial.starts}")
    _leave_guard(directory, kept.trial, seconds)
    return kept.trial.side


def _taken_back(directory: Path, why: str) -> None:
    with suppress(OSError):  # Then the next start finds out again.
        record.change(
            directory,
            lambda found: record.take_back(found, why) if found.trial is not None else found,
        )


def _python(directory: Path, side: Side) -> Path:
    return record.side_of(directory.absolute(), side) / "bin" / "python"


def _become(directory: Path, side: Side, arguments: list[str]) -> None:
    """The agent takes this process over: its pid is the one that systemd watches."""
    python = Path(sys.executable) if side == "factory" else _python(directory, side)
    if not python.exists():
        _say(f"{python} is gone: the installer's agent runs instead")
        side, python = "factory", Path(sys.executable)
    environment = os.environ | {SIDE_VARIABLE: side, FACTORY_VARIABLE: sys.executable}
    # -P: nothing is imported from wherever the command was given.
    os.execve(python, [str(python), "-P", "-c", _START, *arguments], environment)  # noqa: S606 - no shell is wanted


def _leave_guard(directory: Path, trial: AgentTrial, seconds: float) -> None:
    """Forked twice: the agent must not find a child that it did not start."""
    process = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        os.close(process)
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    with suppress(OSError):
        os.setsid()
        _guard(process, directory, trial, seconds)
    os._exit(0)


def _guard(process: int, directory: Path, trial: AgentTrial, seconds: float) -> None:
    if _ended(process, seconds):
        return
    why = f"not healthy within {seconds:g} s"
    try:
        kept = record.change(
            directory, lambda found: record.fault(found, trial.side, trial.starts, why)
        )
    except OSError:  # It is stopped all the same; the start was counted before.
        kept = record.load(directory) or Record()
    if kept.trial is None or kept.trial.starts != trial.starts:
        return
    _say(f"agent {trial.version} is {why}")
    signal.pidfd_send_signal(process, signal.SIGTERM)
    if not _ended(process, STOP_SECONDS):
        signal.pidfd_send_signal(process, signal.SIGKILL)


def _ended(process: int, seconds: float) -> bool:
    """Whether the process ends within ``seconds``, by a clock that nobody sets."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _say(line: str) -> None:
    print(f"muster-agent-launch: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
