"""Which side of the agent runs, and which is on trial: the decisions, and the file they lie in.

The sides are ``factory``, what the installer put in place and no update ever changes, and ``a`` and
``b``, in the agent's directory. A release goes into an idle side and is put on trial; it stays
when the agent there says that it is healthy. Otherwise the launcher goes back. The launcher of any
version reads what an agent of any version wrote, so fields are only ever added here.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from muster_agent.storage.files import make_directory, write_durably

Side = Literal["factory", "a", "b"]
DIRECTORY = "agent"
"""Under the agent's directory: the record and the sides ``a`` and ``b``."""
FILE = "record.json"
LOCK = "lock"
STARTS_MAX = 5
"""Starts on trial without a word of health. A power cut uses one up, too: it can't be told from a
release that takes the machine down."""


class AgentTrial(Struct, frozen=True, omit_defaults=True):
    """A release that has to prove itself."""

    side: Side
    version: str
    issued: int
    """Seconds since 1970, when its keys signed it."""
    online: bool = False
    """The agent before it was connected, so this one must connect, too."""
    starts: int = 0
    fault: str = ""
    """Why it is given up at the next start; empty: it goes on."""


class TakenBack(Struct, frozen=True, omit_defaults=True):
    """A release that did not prove itself, and isn't tried again unless somebody asks."""

    version: str
    why: str


class Record(Struct, frozen=True, omit_defaults=True):
    """What the launcher goes by."""

    side: Side = "factory"
    version: str = ""
    """Of the side; empty: whatever the installer put in place."""
    issued: int = 0
    before: str = ""
    """The version that ran before: the one to which the hub may take the agent back, although it
    was issued earlier."""
    trial: AgentTrial | None = None
    taken_back: TakenBack | None = None
    news: str = ""
    """What the hub has not heard yet; empty: nothing."""


def idle(record: Record) -> Side:
    """The side to install into: neither the one that runs nor the factory's."""
    return "b" if record.side == "a" else "a"


def put_on_trial(record: Record, trial: AgentTrial) -> Record:
    """From the next start on its side is tried."""
    assert trial.side == idle(record)
    return replace(record, trial=trial, taken_back=None, news="")


def begin(record: Record) -> tuple[Record, Side]:
    """What a start runs, and the record to be kept before it does."""
    trial = record.trial
    if trial is None:
        return record, record.side
    if trial.fault or trial.starts >= STARTS_MAX:
        why = trial.fault or f"started {trial.starts} times and was never healthy"
        return take_back(record, why), record.side
    return replace(record, trial=replace(trial, starts=trial.starts + 1)), trial.side


def take_back(record: Record, why: str) -> Record:
    """The trial has failed; the side before it goes on."""
    assert record.trial is not None
    version = record.trial.version
    return replace(
        record,
        trial=None,
        taken_back=TakenBack(version, why),
        news=f"agent {version} was taken back: {why}",
    )


def fault(record: Record, side: Side, starts: int, why: str) -> Record:
    """That start of the trial has failed for good; one that has passed meanwhile stays."""
    trial = record.trial
    if trial is None or (trial.side, trial.starts) != (side, starts):
        return record
    return replace(record, trial=replace(trial, fault=why))


def passed(record: Record, side: Side) -> Record:
    """The agent on trial is healthy: from now on its side is the one that runs."""
    trial = record.trial
    if trial is None or trial.side != side:
        return record
    return Record(
        side,
        trial.version,
        trial.issued,
        before=record.version,
        news=f"agent {trial.version} is in place and healthy",
    )


def withdrawn(record: Record, version: str) -> Record:
    """Without the trial of a version that nobody wants any more, if it has not begun."""
    trial = record.trial
    if trial is None or trial.version != version or trial.starts:
        return record
    return replace(record, trial=None)


def forgiven(record: Record, version: str) -> Record:
    """A version that was taken back may be tried again."""
    before = record.taken_back
    return replace(record, taken_back=None) if before and before.version == version else record


def words(record: Record) -> str:
    """The update's state, for people; empty: there is none to speak of."""
    if record.trial is not None:
        return f"agent {record.trial.version} is on trial, start {record.trial.starts}"
    if record.taken_back is not None:
        return f"agent {record.taken_back.version} was taken back: {record.taken_back.why}"
    return ""


def side_of(directory: Path, side: Side) -> Path:
    """The virtual environment of side ``a`` or ``b``."""
    return directory / DIRECTORY / side


def load(directory: Path) -> Record | None:
    """None when no launcher has ever started here. One that is damaged counts as a new one.

    Raises OSError.
    """
    try:
        return msgspec.json.decode((directory / DIRECTORY / FILE).read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Record()


def change(directory: Path, step: Callable[[Record], Record]) -> Record:
    """Replace the record, whole and durable, by what ``step`` makes of it. Raises OSError."""
    with _locked(directory):
        before = load(directory)
        after = step(before or Record())
        if after != before:
            write_durably(directory / DIRECTORY / FILE, msgspec.json.encode(after), mode=0o600)
        return after


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Launcher, guard, agent and command change the record by turns."""
    make_directory(directory / DIRECTORY, mode=0o700)
    descriptor = os.open(directory / DIRECTORY / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
