"""From a signed goal to an installed bundle: which files, which chunks, put together in steps."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from muster_agent.base.system_error import as_refusal
from muster_agent.fetch.actions import Place
from muster_agent.storage.content import ChunksMissing, Store, StoreRefused, decode_manifest
from muster_agent.update.memory import Plan, plan
from muster_agent.update.preflight import Hardware, refusal
from muster_agent.update.table import Cause
from muster_protocol.wire import agent_release, limits
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import ProtocolError, Refusal
from muster_protocol.wire.manifest import Build, File, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_BYTES = 4 * limits.MIB
"""Bytes put together at a time, between which other events are handled."""


class BundleInstall:
    """Reads manifests out of the store and installs their bundles."""

    def __init__(
        self,
        store: Store,
        runtimes: tuple[str, ...],
        hardware: Hardware | None = None,
        memory_free_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """``hardware`` is what the device is, as far as known; so is the free memory, else 0."""
        self.store = store
        self._runtimes = runtimes
        self._hardware = hardware or Hardware()
        self._memory_free_bytes = memory_free_bytes

    def manifest(self, goal: Goal) -> Manifest:
        """The goal's manifest; raises ChunksMissing, StoreRefused(MALFORMED)."""
        data = self.store.manifest(goal.manifest)
        if data is None:
            raise ChunksMissing((goal.manifest,))
        try:
            listing = decode_manifest(data)
        except ProtocolError as error:
            raise StoreRefused(Refusal.MALFORMED, str(error)) from None
        if (listing.model, listing.version) != (goal.model, goal.version):
            raise StoreRefused(
                Refusal.MALFORMED,
                f"the manifest is of {listing.model} {listing.version}, "
                f"the goal names {goal.model} {goal.version}",
            )
        return listing

    def build(self, listing: Manifest) -> Build:
        """The build this device runs: the first that fits it. Raises StoreRefused(NO_RUNTIME).

        One that doesn't fit is taken rather than none: a model that runs already goes on.
        """
        usable = [build for build in listing.builds if build.runtime in self._runtimes]
        fitting = [build for build in usable if refusal(build, self._hardware) is None]
        if not usable:
            needs = ", ".join(build.runtime for build in listing.builds)
            has = ", ".join(self._runtimes) or "none"
            raise StoreRefused(
                Refusal.NO_RUNTIME,
                f"{listing.model} {listing.version} runs on {needs}; this device has {has}",
            )
        return (fitting or usable)[0]

    def files(self, goal: Goal) -> tuple[File, ...]:
        """The files a goal needs here: of a model those of its build, of a release of the agent its
        one file. Raises ChunksMissing, StoreRefused.
        """
        if goal.model != agent_release.NAME:
            listing = self.manifest(goal)
            return listing.files_for(self.build(listing))
        data = self.store.manifest(goal.manifest)
        if data is None:
            raise ChunksMissing((goal.manifest,))
        try:
            release = agent_release.decode_listing(data)
        except ProtocolError as error:
            raise StoreRefused(Refusal.MALFORMED, str(error)) from None
        if release.version != goal.version:
            raise StoreRefused(
                Refusal.MALFORMED,
                f"the listing is of agent {release.version}, the goal names {goal.version}",
            )
        return (release.file,)

    def installed(self, goal: Goal) -> bool:
        """Whether a goal's bundle is in its place with all its files."""
        if goal.model == agent_release.NAME:
            return False  # It is put beside the agent that runs, not into the store.
        try:
            listing = self.manifest(goal)
            return self.store.holds(goal.manifest, listing.files_for(self.build(listing)))
        except (ChunksMissing, StoreRefused):
            return False

    def chunks(self, goal: Goal) -> tuple[tuple[str, ...], int]:
        """Chunks still to be fetched, as far as what is here tells, and the bundle's bytes.

        First the manifest alone, then the indexes, then the files; empty when all is here.
        Raises StoreRefused when the bundle can't run here or has no room.
        """
        try:
            files = self.files(goal)
        except ChunksMissing as gone:
            return gone.digests, goal.manifest_bytes
        self._check_hardware(goal)
        total = sum(file.size_bytes for file in files)
        missing = [d for file in files for d in file.index if not self.store.has(d)]
        if not missing:
            try:
                wanted = [d for file in files for d in self.store.chunks_of(file)]
            except ProtocolError as error:
                raise StoreRefused(Refusal.MALFORMED, str(error)) from None
            except ChunksMissing as gone:
                wanted = list(gone.digests)
            missing = [digest for digest in dict.fromkeys(wanted) if not self.store.has(digest)]
        return tuple(dict.fromkeys(missing)), total

    def _check_hardware(self, goal: Goal) -> None:
        if goal.model == agent_release.NAME:
            return  # Its wheels say themselves what they fit.
        build = self.build(self.manifest(goal))
        if (unfit := refusal(build, self._hardware)) is not None:
            raise StoreRefused(*unfit)

    def plan(self, goal: Goal, starting: Goal | None) -> Plan:
        """How a candidate starts; ``starting`` is a champion that doesn't have its memory yet."""
        champion = None
        try:
            listing = self.manifest(goal)
            if starting is not None:
                champion = self.build(self.manifest(starting))
            return plan(listing, self.build(listing), champion, self._memory_free_bytes())
        except (ChunksMissing, StoreRefused):
            return "beside"  # Whoever starts it says better what is wrong with it.

    def places(self, goal: Goal, missing: tuple[str, ...]) -> dict[str, Place]:
        """Where missing chunks lie in their files, as far as the indexes here tell."""
        try:
            files = self.files(goal)
        except (ChunksMissing, StoreRefused):
            return {}
        wanted = set(missing)
        places: dict[str, Place] = {}
        for file in files:
            try:
                digests = self.store.chunks_of(file)
            except (ChunksMissing, ProtocolError):
                continue
            if len(digests) * limits.CHUNK_BYTES - file.size_bytes >= limits.CHUNK_BYTES:
                continue  # Cut finer than into whole chunks: only reading it tells where.
            for number, digest in enumerate(digests):
                if digest in wanted and digest not in places:
                    offset = number * limits.CHUNK_BYTES
                    size = min(limits.CHUNK_BYTES, file.size_bytes - offset)
                    places[digest] = Place(file.sha256, offset, size)
        return places

    def done_bytes(self, goal: Goal, missing: tuple[str, ...]) -> int:
        """Bytes of the bundle's files that are here, to within a chunk a file."""
        try:
            files = self.files(goal)
            lacking = set(missing)
            return sum(self._done_of(file, lacking) for file in files)
        except (ChunksMissing, StoreRefused):
            return 0

    def _done_of(self, file: File, missing: set[str]) -> int:
        try:
            digests = self.store.chunks_of(file)
        except (ChunksMissing, ProtocolError):
            return 0
        lacking = sum(digest in missing for digest in digests)
        return max(file.size_bytes - lacking * limits.CHUNK_BYTES, 0)

    def preflight(self, missing_chunks: int, total_bytes: int) -> None:
        """Room for the chunks still to come and for the bundle put together of them."""
        coming = min(missing_chunks * limits.CHUNK_BYTES, total_bytes)
        self.store.preflight(coming + total_bytes)

    def begin(self, goal: Goal) -> "Bundle":
        """A goal's bundle, to be assembled."""
        return Bundle(self, goal)


class Bundle:
    """One bundle being put together."""

    def __init__(self, install: BundleInstall, goal: Goal) -> None:
        self._install = install
        self._goal = goal
        self._pieces: Iterator[int] | None = None

    def step(self) -> Cause | tuple[Refusal, str] | None:
        """Some bytes further: VERIFIED, DAMAGED, a refusal, or None: call again."""
        try:
            if self._pieces is None:
                listing = self._install.manifest(self._goal)
                build = self._install.build(listing)
                store, digest = self._install.store, self._goal.manifest
                if self._install.installed(self._goal):
                    # It may have lain there for months: a disk that rots must not condemn it.
                    self._pieces = store.prove(digest, listing.files_for(build))
                else:
                    self._pieces = store.assemble(digest, listing, build)
            done = 0
            for size in self._pieces:
                done += size
                if done >= STEP_BYTES:
                    return None
        except ChunksMissing:
            return Cause.DAMAGED
        except StoreRefused as refused:
            return refused.refusal, str(refused)
        except OSError as error:
            refusal, words = as_refusal(error, Refusal.DEVICE_FAULT)
            return refusal, f"the bundle could not be written: {words}"
        return Cause.VERIFIED
