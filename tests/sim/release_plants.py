"""Bugs of the agent's own updates planted on purpose; a world of releases must find each."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from muster_agent.selfupdate import installing, record
from muster_agent.selfupdate.record import AgentTrial, Record, Side
from muster_agent.selfupdate.trial import TrialWatch
from sim.release_device import WHOLE, Installer, Launcher, Release
from sim.release_world import ReleaseDoubles


class TriedBeforeWhole(Installer):
    """The trial is noted before all of it is written down."""

    def steps(self, directory: Path, release: Release, *, online: bool) -> Iterator[None]:
        found = record.load(directory) or Record()
        installing._check(found, release.signed, retry=True, may_go_back=True)
        side = record.idle(found)
        place = record.side_of(directory, side)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "version").write_text(release.version)
        trial = AgentTrial(side, release.version, release.issued, online)
        record.change(directory, lambda now: replace(now, trial=trial))
        yield
        (place / WHOLE).touch()


class StartsWhateverIsThere(Launcher):
    """Files are not looked at before a side is started."""

    def side(self, directory: Path) -> Side:
        kept = record.change(directory, lambda found: record.begin(found)[0])
        return kept.trial.side if kept.trial is not None else kept.side


class CountsNoStarts(Launcher):
    """A start is noted once the agent has come up, which a bad one never does."""

    def side(self, directory: Path) -> Side:
        held = record.load(directory) or Record()
        return held.trial.side if held.trial is not None else held.side


class InstallsInPlace(Installer):
    """Over the side that runs."""

    def steps(self, directory: Path, release: Release, *, online: bool) -> Iterator[None]:
        held = record.load(directory) or Record()
        place = record.side_of(directory, held.side if held.side != "factory" else "a")
        shutil.rmtree(place, ignore_errors=True)
        yield
        place.mkdir(parents=True)
        (place / "version").write_text(release.version)
        (place / WHOLE).touch()
        yield
        yield from super().steps(directory, release, online=online)


class TakesAnyRelease(Installer):
    """However long ago it was signed."""

    def steps(self, directory: Path, release: Release, *, online: bool) -> Iterator[None]:
        record.change(directory, lambda held: replace(held, issued=0, trial=None))
        yield from super().steps(directory, release, online=online)


class NeedsNoLink(Installer):
    """The agent on trial is not asked to find the hub."""

    def steps(self, directory: Path, release: Release, *, online: bool) -> Iterator[None]:
        yield from super().steps(directory, release, online=False)


class HealthyAtOnce(TrialWatch):
    """That it has started is taken for health."""

    def look(self, now: float, *, connected: bool, serving: bool) -> None:
        super().look(now, connected=True, serving=True)


RELEASE_PLANTS: dict[str, ReleaseDoubles] = {
    "on trial before it is whole": ReleaseDoubles(
        installer=TriedBeforeWhole, launcher=StartsWhateverIsThere
    ),
    "starts of a trial not counted": ReleaseDoubles(launcher=CountsNoStarts),
    "installed over what runs": ReleaseDoubles(installer=InstallsInPlace),
    "an old release is taken": ReleaseDoubles(installer=TakesAnyRelease),
    "no link asked of the next agent": ReleaseDoubles(installer=NeedsNoLink),
    "started is taken for healthy": ReleaseDoubles(watch=HealthyAtOnce),
}
