"""The trust store on disk: ngclient's workflow, made durable, with time and files handed in.

``trust/root.json`` is the factory root, always the bootstrap. A cycle works on a scratch copy of
the newest set; whatever ngclient has verified by its end, failed or not, becomes ``sets/<n>`` in
one rename. ``sums.json`` in each set tells damage, and an older set stands in for a damaged file,
so a power cut can't make this device forget which versions it has seen.

One thread, of one process, refreshes; others may read, which writes nothing here.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec
from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Signed, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from muster_agent.storage.files import (
    PART_SUFFIX,
    fill_durably,
    link_durably,
    make_directory,
    rename_durably,
)
from muster_agent.trust.mirror import MODEL_ROLE_PREFIX
from muster_agent.trust.time import ClockReading, Instant, trusted_now
from muster_agent.trust.trusted import (
    Trusted,
    TrustRefused,
    as_datetime,
    refusal_of,
    verify_release,
)
from muster_protocol.wire import limits, manifest
from muster_protocol.wire.agent_release import AgentRelease
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError, Refusal

SETS_KEPT = 3
MODEL_ROLES_KEPT = 64
ROOTS_MAX = 1024
"""Roots from the factory's to the newest; each is walked through at every start."""
TIMESTAMP_BYTES_MAX = 16 * limits.KIB
SUMS = "sums.json"
BEFORE_ALL_EXPIRY = 0
"""A reference time at which nothing has expired: for reading what was verified, apart from time."""

_URL = "mirror:/"
_SCRATCH_PREFIX = "muster-trust-"
_MEMORY = "/dev/shm"  # noqa: S108 - TemporaryDirectory makes a private one in it
_FILE = re.compile(r"(?:root_history/[1-9][0-9]{0,8}\.root|[A-Za-z0-9%._~-]{1,200})\.json")
"""ngclient's names in a set: a role's name comes quoted, so none can leave the directory."""
_CONFIG = UpdaterConfig(
    max_root_rotations=ROOTS_MAX,
    root_max_length=limits.TUF_METADATA_BYTES_MAX,
    timestamp_max_length=TIMESTAMP_BYTES_MAX,
    snapshot_max_length=limits.TUF_METADATA_BYTES_MAX,
    targets_max_length=limits.TUF_METADATA_BYTES_MAX,
)


class TrustStoreError(MusterError):
    """The trust store itself can't be used: the factory root is missing or damaged."""


TufSource = Callable[[str], bytes | None]
"""The bytes of a TUF file by its name; None when it does not exist."""


class _MirrorFetcher(FetcherInterface):
    """Hands ngclient the files of a source; an absent one is its 404."""

    def __init__(self, source: TufSource) -> None:
        self.source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(_URL)
        data = self.source(name)
        if data is None:
            raise exceptions.DownloadHTTPError(f"{name} did not come", 404)
        return iter((data,))

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As the inherited one, without its way over a temporary file."""
        data = b"".join(self.fetch(url))
        if len(data) > max_length:
            raise exceptions.DownloadLengthMismatchError(
                f"{url.removeprefix(_URL)} has more than the {max_length} bytes allowed"
            )
        return data


class TrustStore:
    """Verified metadata on the disk, and the client that verifies more of them."""

    def __init__(self, directory: Path) -> None:
        """``directory`` holds ``root.json``; raises TrustStoreError when that can't be used."""
        self._directory = directory
        self._sets = directory / "sets"
        path = directory / "root.json"
        try:
            self._factory_root = path.read_bytes()
            root = Metadata[Root].from_bytes(self._factory_root)
            root.verify_delegate(Root.type, root)
        except OSError as error:
            raise TrustStoreError(
                f"{path}: {error.strerror}. Enrol with --root FILE: the factory root comes with "
                "the installer, not from the hub"
            ) from None
        except (exceptions.RepositoryError, ValueError) as error:
            raise TrustStoreError(
                f"{path} is not a factory root ({error}): restore it from the installer"
            ) from None
        try:
            self._files = self._newest_files()
            self._view = self._read(self._files)
        except OSError as error:
            raise TrustStoreError(f"can't read {directory}: {error}") from None

    def now(self, reading: ClockReading) -> Instant:
        """Trusted time by this store's signed issue times and the system clock."""
        return trusted_now(reading, self._view.issued)

    @property
    def factory_root(self) -> bytes:
        """The root that the installer brought; everything is verified from it."""
        return self._factory_root

    def versions(self) -> dict[str, int]:
        """Versions of what is verified, by file stem; at least the root's."""
        return self._view.versions

    def trusted(self) -> Trusted | None:
        """What is verified, apart from time; None before the first complete cycle."""
        return self._view if Targets.type in self._view.roles else None

    def refresh(
        self, files: Mapping[str, bytes], models: frozenset[str], reading: ClockReading
    ) -> Trusted:
        """Run one cycle over mirrored ``files`` by TUF file name, and keep what verified.

        Raises TrustRefused; even then the store may have moved, so ask ``trusted`` and
        ``versions`` again. A model whose role is refused is named in ``Trusted.refused``.
        """
        return self._refreshed(files.get, models, None, reading)

    def locate(self, source: TufSource, path: str | None, reading: ClockReading) -> Trusted:
        """Run one cycle over a repository that can be asked file by file, and look for ``path``
        through any delegation; afterwards ``Trusted.find(path)`` answers. Raises TrustRefused.
        """
        return self._refreshed(source, frozenset(), path, reading)

    def verify_release(self, envelope: bytes) -> AgentRelease:
        """A release of the agent, by the newest root that is verified. Raises TrustRefused."""
        root = self._view.roles[Root.type]
        assert isinstance(root, Root)
        return verify_release(root, envelope)

    def files(self) -> dict[str, bytes]:
        """The files held, by ngclient's names for them: what to show to someone who asks."""
        return dict(self._files)

    def _refreshed(
        self, source: TufSource, models: frozenset[str], path: str | None, reading: ClockReading
    ) -> Trusted:
        root_before = self.versions()[Root.type]
        refused = self._cycle(source, models, path, self.now(reading))
        if refused is not None and self.versions()[Root.type] > root_before:
            # A new root resets the time floor: metadata under withdrawn keys no longer sets it.
            refused = self._cycle(source, models, path, self.now(reading))
        if refused is not None:
            raise refused
        return self._view

    def _cycle(
        self, source: TufSource, models: frozenset[str], path: str | None, now: Instant
    ) -> TrustRefused | None:
        before = self._files
        held = self._held(before)

        def remote(name: str) -> bytes | None:
            found = source(name)
            return held.get(name) if found is None else found

        try:
            view, after, refused = self._run(
                before,
                remote,
                models | _models_in(before),
                now.seconds,
                path,
            )
            kept = _bounded(after, models)
            if kept != before:
                self._commit(kept)
                self._files = kept
        except OSError as error:
            return TrustRefused(
                Refusal.NO_SPACE, f"can't write {self._directory}: {error.strerror or error}"
            )
        self._view = view if refused is None else self._read(kept)
        return refused

    def _held(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """What we hold, under the names ngclient fetches by.

        It asks again for a file it holds but may not use, and then says why: expired, not missing.
        """
        versions = {s: v for s, v in self.versions().items() if s not in ("root", "timestamp")}
        held = {f"{v}.{s}.json": files.get(f"{s}.json") for s, v in versions.items()}
        return {name: data for name, data in held.items() if data is not None}

    def _read(self, files: Mapping[str, bytes]) -> Trusted:
        """Verify what is on disk, apart from time."""
        remote = {name: data for name, data in files.items() if name == "timestamp.json"}
        view, _, _ = self._run(files, remote.get, _models_in(files), BEFORE_ALL_EXPIRY)
        return view

    def _run(
        self,
        local: Mapping[str, bytes],
        remote: TufSource,
        models: frozenset[str],
        seconds: int,
        wanted: str | None = None,
    ) -> tuple[Trusted, dict[str, bytes], TrustRefused | None]:
        """One run of ngclient: what it trusts, the files it leaves, and its objection."""
        fetcher = _MirrorFetcher(remote)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=_in_memory()) as scratch:
            _unpack(local, Path(scratch))
            updater = Updater(
                scratch, _URL, fetcher=fetcher, config=_CONFIG, bootstrap=self._factory_root
            )
            # Private, and the only way to hand ngclient the time; a test watches over it.
            trusted_set = updater._trusted_set  # noqa: SLF001 - the library shows it no other way
            trusted_set.reference_time = as_datetime(seconds)
            refused = _attempt(updater.refresh)
            refused_models: dict[str, TrustRefused] = {}
            if refused is None:
                for model in sorted(models):
                    path = manifest.target_path(model, "0")
                    problem = _attempt(partial(updater.get_targetinfo, path))
                    if problem is not None:
                        refused_models[model] = problem
            if refused is None and wanted is not None:
                refused = _attempt(partial(updater.get_targetinfo, wanted))
            left = _pack(Path(scratch))
        # ngclient may look for a role again later: it must find nothing new then.
        fetcher.source = lambda _: None
        roles: dict[str, Signed] = {}
        for stem in (
            "root",
            "timestamp",
            "snapshot",
            "targets",
            *map(manifest.role_name, sorted(models)),
        ):
            signed = trusted_set.get(stem)
            if signed is not None:
                roles[stem] = signed
        return Trusted(roles, updater.get_targetinfo, refused_models), left, refused

    def _set_numbers(self) -> list[int]:
        """Numbers of the sets on disk, newest first."""
        if not self._sets.is_dir():
            return []
        names = [path.name for path in self._sets.iterdir() if path.is_dir()]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _newest_files(self) -> dict[str, bytes]:
        """The files of the newest set, with an older set's file in place of a damaged one."""
        files: dict[str, bytes] = {}
        sets = [_pack(self._sets / str(number)) for number in self._set_numbers()]
        intact = [_intact(found) for found in sets]
        # A set without its sums may still remember more than nothing: ngclient judges its files.
        for found in [*intact, *sets]:
            for name, data in found.items():
                files.setdefault(name, data)
        files.pop(SUMS, None)
        return files

    def _commit(self, files: Mapping[str, bytes]) -> None:
        for stray in self._sets.glob(f"*{PART_SUFFIX}"):
            shutil.rmtree(stray, ignore_errors=True)
        number = max(self._set_numbers(), default=0) + 1
        part = self._sets / f"{number}{PART_SUFFIX}"
        make_directory(self._sets)
        files = {name: data for name, data in files.items() if name != SUMS}
        sums = {name: sha256_hex(data) for name, data in files.items()}
        fill_durably(part, {**files, SUMS: msgspec.json.encode(sums, order="deterministic")})
        rename_durably(part, self._sets / str(number))
        link_durably(self._directory / "current", f"sets/{number}")
        for old in self._set_numbers()[SETS_KEPT:]:
            shutil.rmtree(self._sets / str(old), ignore_errors=True)


def _models_in(files: Mapping[str, bytes]) -> frozenset[str]:
    """Models whose roles are held, though no directive may name them at the moment."""
    stems = (name.removesuffix(".json") for name in files)
    return frozenset(
        stem.removeprefix(MODEL_ROLE_PREFIX) for stem in stems if stem.startswith(MODEL_ROLE_PREFIX)
    )


def _in_memory() -> str | None:
    """Where scratch files cost the disk nothing; None: wherever temporary files go."""
    usable = os.access(_MEMORY, os.W_OK | os.X_OK)
    return _MEMORY if usable else None


def _attempt(step: Callable[[], object]) -> TrustRefused | None:
    """Run a step of ngclient on hostile input; anything it throws but OSError is a refusal."""
    try:
        step()
    except OSError:
        raise
    except Exception as error:  # fails closed, whatever the metadata made it stumble over
        return refusal_of(error)
    return None


def _unpack(files: Mapping[str, bytes], directory: Path) -> None:
    (directory / "root_history").mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)


def _pack(directory: Path) -> dict[str, bytes]:
    """The metadata files under ``directory`` by relative name, without the link to the root."""
    files = {}
    for path in sorted(directory.rglob("*.json")):
        name = path.relative_to(directory).as_posix()
        if _FILE.fullmatch(name) and path.is_file() and not path.is_symlink():
            with path.open("rb") as opened:
                files[name] = opened.read(limits.TUF_METADATA_BYTES_MAX + 1)
    return files


def _intact(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a set that are what was written, by its sums."""
    try:
        sums = msgspec.json.decode(files.get(SUMS, b""), type=dict[str, str])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return {name: data for name, data in files.items() if sums.get(name) == sha256_hex(data)}


def _bounded(files: dict[str, bytes], models: frozenset[str]) -> dict[str, bytes]:
    """Forget roles of models no longer followed when there are too many of them.

    That is safe: the snapshot, not the role's own file, remembers its version.
    """
    followed = {f"{manifest.role_name(model)}.json" for model in models}
    spare = [name for name in files if name.startswith(MODEL_ROLE_PREFIX) and name not in followed]
    surplus = set(spare[: max(0, len(spare) + len(followed) - MODEL_ROLES_KEPT)])
    return {name: data for name, data in files.items() if name not in surplus}
