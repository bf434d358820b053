"""Death at every instant: the device ends with the old model or the new one, whole.

By default a fixed part of each matrix is tried, all of it with ``MUSTER_CRASH_ALL=1`` (``make
crash-matrix``). What was tried is listed at the end of the run.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crash import bugs, plant, powercut, tracer

ALL = os.environ.get("MUSTER_CRASH_ALL") == "1"
KILLS_EVERY, CUTS_EVERY = (1, 1) if ALL else (5, 17)
KILLS_MIN, CUTS_MIN = 150, 700
"""In all of each matrix, for each story; fewer mean that the trace has lost something."""
BUG_CUTS_EVERY, BUG_LOOKS = 3, 60
DELETION_CUTS = 150
MEMORY = Path("/dev/shm")  # syncing is as good as free there; what counts is the calls
pytestmark = pytest.mark.timeout(1800 if ALL else 120)


@dataclass
class Room:
    """Where the stories are lived; each is traced once."""

    directory: Path
    _lived: dict[str, list[tracer.Call]] = field(default_factory=dict)

    def start(self, story: str) -> Path:
        """The disk before the story."""
        directory = self.directory / f"{story}-start"
        if not directory.exists():
            directory.mkdir()
            plant.template(story, directory)
        return directory

    def lived(self, story: str, bug: str = "") -> Path:
        return self.directory / f"{story}-{bug}lived"

    def calls(self, story: str, bug: str = "") -> list[tracer.Call]:
        """What the story did to the disk."""
        if story + bug not in self._lived:
            lived, log = self.lived(story, bug), self.directory / "log"
            shutil.copytree(self.start(story), lived, symlinks=True)
            self._lived[story + bug] = tracer.trace(story, lived, log, bug=bug)
            log.unlink()
        return self._lived[story + bug]

    def cuts(self, story: str, bug: str = "", every: int = 1) -> list[tuple[str, powercut.Disk]]:
        calls = self.calls(story, bug)
        disk = powercut.Disk(self.start(story)).at(self.lived(story, bug))
        return list(powercut.cuts(disk, calls, every=every))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    if not os.access(MEMORY, os.W_OK):
        yield Room(tmp_path_factory.mktemp("crash"))
        return
    with tempfile.TemporaryDirectory(prefix="muster-crash-", dir=MEMORY) as directory:
        yield Room(Path(directory))


@pytest.mark.parametrize("story", plant.WORLDS)
def test_killed_at_any_call_that_changes_the_disk_it_ends_in_old_or_new(
    story: str, room: Room, record_property: Callable[[str, object], None]
) -> None:
    changing = [call for call in room.calls(story) if call.changes(room.lived(story))]
    assert len(changing) >= KILLS_MIN
    cases = {
        f"{call.name}:{call.number}": room.directory / f"{call.name}-{call.number}"
        for call in changing[::KILLS_EVERY]
    }
    for directory in cases.values():
        shutil.copytree(room.start(story), directory, symlinks=True)
    died = tracer.kill(story, cases)
    wrong = {case: plant.after_crash(story, at) for case, at in cases.items()}
    for directory in cases.values():
        shutil.rmtree(directory)
    assert [case for case, dead in died.items() if not dead] == []
    assert {case: lines for case, lines in wrong.items() if lines} == {}
    record_property("tried", f"{story}: killed at {len(cases)} of {len(changing)} system calls")


@pytest.mark.parametrize("story", plant.WORLDS)
def test_whatever_a_power_cut_leaves_of_the_disk_it_ends_in_old_or_new(
    story: str, room: Room, record_property: Callable[[str, object], None]
) -> None:
    disks = room.cuts(story)
    assert len(disks) >= CUTS_MIN
    wrong = {}
    tried = disks[::CUTS_EVERY]
    for how, disk in tried:
        directory = room.directory / "cut"
        disk.write(directory)
        if lines := plant.after_crash(story, directory):
            wrong[how] = lines
        shutil.rmtree(directory)
    assert wrong == {}
    line = f"{story}: recovered from {len(tried)} of {len(disks)} disks after a power cut"
    record_property("tried", line)


@pytest.mark.parametrize("bug", bugs.BUGS)
def test_the_classic_mistakes_are_found(bug: str, room: Room) -> None:
    story, disks = "update", room.cuts("update", bug, BUG_CUTS_EVERY)
    some = range(0, len(disks), max(len(disks) // BUG_LOOKS, 1))
    if bug == "delete_in_place":
        # The bundle before an update is kept; a refused one is deleted, at the story's very end.
        story, disks = "rollback", room.cuts("rollback", bug)[-DELETION_CUTS:]
        some = range(len(disks))
    directories = [room.directory / f"{bug}-{number}" for number in some]
    for number, directory in zip(some, directories, strict=True):
        disks[number][1].write(directory)
    found = tracer.check(story, bug, directories)
    assert found or link_missing(room, bug), f"{bug}: not found"


def link_missing(room: Room, bug: str) -> bool:
    """Whether other programs may find nothing where the link should be, after some cut."""
    for number, (_, disk) in enumerate(room.cuts("update", bug)):
        directory = room.directory / f"{bug}-link-{number}"
        disk.write(directory)
        problems = plant.link_problems(directory)
        shutil.rmtree(directory)
        if problems:
            return True
    return False
