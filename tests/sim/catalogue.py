"""Releases made once for a process: signed metadata, bundles, and trust stores already verified.

Signing and ``tuf.ngclient`` take milliseconds; a thousand worlds can't pay that for each device.
So the catalogue's states are made once, in a fixed order of releases, and what the real
``TrustStore`` makes of the same files, from the same state on disk, in the same span of time, is
remembered by their bytes.
"""

import atexit
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from muster_agent.trust.store import SETS_KEPT, TrustStore
from muster_agent.trust.time import DAY_SECONDS, ClockReading, Instant
from muster_agent.trust.trusted import Trusted, TrustRefused
from muster_protocol.wire import chunks, manifest
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from sim.inputs import trained
from support.tuf_repository import LIFE_DAYS, NOW, Repository

MODELS = {"main": "digits", "aux": "sounds"}
RELEASES = (
    ("digits", "1.0.0"), ("sounds", "1.0.0"), ("digits", "2.0.0"), ("sounds", "1.5.0"),
    ("digits", "3.0.0"),
    ("sounds", "2.0.0"), ("digits", "4.0.0"), ("digits", "5.0.0"), ("sounds", "3.0.0"),
    ("digits", "8.0.0"), ("digits", "9.0.0"), ("sounds", "9.0.0"),
)  # fmt: skip
DOOMED = ("digits", "8.0.0")
"""For worlds that have seen no rollback: its answers are errors."""
WATCHED = ("sounds", "1.5.0")
"""It has a baseline: what it is asked is watched for drift."""
FINAL = {"digits": "9.0.0", "sounds": "9.0.0"}
PROBATION_SECONDS = 12.0
GAP_SECONDS = 20.0
MODEL_MEMORY_BYTES = 1 << 20
_EXPIRIES = sorted({NOW + LIFE_DAYS.get(role, 365) * DAY_SECONDS for role in LIFE_DAYS})


SCRATCH_PREFIX = "muster-sim-"
SCRATCH_IN = "MUSTER_SIM_SCRATCH"
"""Names the directory for scratch directories, for a process that is ended without notice."""


def memory() -> Path:
    """Where scratch directories are made."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


@cache
def scratch() -> Path:
    """A directory in memory for this process, removed when it ends in good order."""
    parent = os.environ.get(SCRATCH_IN) or memory()
    made = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=parent))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@dataclass(frozen=True)
class Release:
    model: str
    version: str
    manifest: bytes
    blobs: Mapping[str, bytes]
    files: Mapping[str, bytes]
    """What of it is installed, by name."""

    @cached_property
    def goal(self) -> Goal:
        return Goal(self.model, self.version, self.sha256, len(self.manifest))

    @cached_property
    def sha256(self) -> str:
        return chunks.sha256_hex(self.manifest)

    @cached_property
    def model_sha256(self) -> str:
        return chunks.sha256_hex(self.files["model.onnx"])


def make_release(model: str, version: str, rng: random.Random) -> Release:
    shared = f"labels of {model}".encode() * 40
    files = {
        "model.onnx": rng.randbytes(1500), "golden.npz": rng.randbytes(200), "labels.txt": shared,
    }  # fmt: skip
    watched = (model, version) == WATCHED
    if watched:
        files["baseline.bin"] = trained()
    listed = tuple(
        manifest.File(name, len(data), chunks.sha256_hex(data)) for name, data in files.items()
    )
    made = manifest.Manifest(
        model=model,
        version=version,
        created=0,
        inputs=(manifest.Tensor("x", "FP32", (-1, 4)),),
        outputs=(manifest.Tensor("p", "FP32", (-1, 3)),),
        builds=(manifest.Build("onnx", "model.onnx", MODEL_MEMORY_BYTES),),
        files=listed,
        golden=manifest.Golden("golden.npz"),
        baseline="baseline.bin" if watched else None,
        probation=manifest.Probation(seconds=PROBATION_SECONDS),
        swap=manifest.Swap("stop_start", GAP_SECONDS),
    )
    data = manifest.encode(made)
    blobs = {chunks.sha256_hex(item): item for item in (*files.values(), data)}
    return Release(model, version, data, blobs, files)


class Catalogue:
    """``states[n]`` is what is published after the first n releases, in publication order."""

    def __init__(self) -> None:
        rng = random.Random(7)
        self.repository = Repository(tuple(MODELS.values()), rng=rng)
        self.releases = [make_release(model, version, rng) for model, version in RELEASES]
        self.rogue = make_release("digits", "6.6.6", rng)
        """Never signed by a release key."""
        self.by_manifest = {item.sha256: item for item in (*self.releases, self.rogue)}
        self.blobs = {name: data for item in self.by_manifest.values() for name, data in
                      item.blobs.items()}  # fmt: skip
        self.states: list[dict[str, bytes]] = [self._current()]
        for release in self.releases:
            self.repository.release(release.model, release.version, release.manifest)
            self.states.append(self._current())
        self.director = self.repository.keys["director"][0]

    def _current(self) -> dict[str, bytes]:
        held, roles = self.repository.files, self.repository.roles
        leaves = [role for role in roles if role not in ("root", "snapshot", "timestamp")]
        names = [f"{roles[role].signed.version}.{role}.json" for role in ("root", *leaves)]
        names += [f"{roles['snapshot'].signed.version}.snapshot.json", "timestamp.json"]
        return {name: held[name] for name in names}


@cache
def catalogue() -> Catalogue:
    return Catalogue()


class Published:
    """The hub's catalogue in one world; implements what engine and publisher need of it."""

    director_epoch = 1

    def __init__(self) -> None:
        self.count = 0

    def files_to_publish(self) -> Mapping[str, bytes]:
        return catalogue().states[self.count]

    def refresh(self, now: float) -> bool:
        return False

    def ahead(self, reported: Mapping[str, int]) -> dict[str, int]:
        current = self._versions()
        return {
            role: current[role]
            for role, version in reported.items()
            if role in current and version > current[role]
        }

    def caught_up(self) -> None:
        return None

    def _versions(self) -> dict[str, int]:
        found = {}
        for name, data in self.files_to_publish().items():
            role = name.removesuffix(".json").rpartition(".")[2]
            found[role] = max(found.get(role, 0), int(json.loads(data)["signed"]["version"]))
        return found

    def signed(self) -> frozenset[str]:
        return _signed(self.count)


@cache
def _signed(count: int) -> frozenset[str]:
    return frozenset(release.sha256 for release in catalogue().releases[:count])


@dataclass(frozen=True)
class _Node:
    """A trust directory as it stands on some device's disk; never changed once made."""

    number: int
    directory: Path
    store: TrustStore
    held: str
    """What is on the disk, hashed."""


@dataclass(frozen=True)
class _Remembered:
    """One cycle of the real store: the files it asked for, by hash, and what came of it."""

    asked: Mapping[str, str]
    node: _Node
    refusal: Refusal | None
    detail: str

    def holds_for(self, files: Mapping[str, bytes]) -> bool:
        return all(_digest(files.get(name)) == found for name, found in self.asked.items())


class _Asked(Mapping[str, bytes]):
    """A mirror that notes what is asked of it."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self.asked: dict[str, str] = {}

    def __getitem__(self, name: str) -> bytes:
        self.asked[name] = _digest(self._files.get(name))
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("a trust store asks for files by name; what else is there, it can't know")

    def __len__(self) -> int:
        raise TypeError("a trust store asks for files by name")


def _sets(directory: Path) -> list[Path]:
    """Sets of metadata on the disk, the newest last."""
    found = (path for path in (directory / "sets").glob("*") if path.name.isdecimal())
    return sorted(found, key=lambda path: int(path.name))


def _digest(data: bytes | None) -> str:
    return "absent" if data is None else chunks.sha256_hex(data)


class TrustMemory:
    """Trust directories and what the real store makes of them, by content.

    A cycle depends on the newest set, the models, the span of time and the files it asked for, and
    on nothing else: what came of it once comes of it again. Older sets only count when the newest
    is damaged, so each device remembers its own.
    """

    def __init__(self) -> None:
        self._made = 0
        self._after: dict[tuple[object, ...], list[_Remembered]] = {}
        self._truncated: dict[tuple[int, tuple[Path, ...]], _Node] = {}
        self._alike: dict[tuple[str, str], _Node] = {}
        directory = scratch() / "trust-0"
        directory.mkdir()
        (directory / "root.json").write_bytes(catalogue().repository.factory_root)
        self.factory = self._node(directory, TrustStore(directory))

    def refresh(
        self, node: _Node, files: Mapping[str, bytes], models: frozenset[str], reading: ClockReading
    ) -> tuple[_Node, Refusal | None, str]:
        instant = node.store.now(reading)
        span = sum(instant.seconds >= expiry for expiry in _EXPIRIES)
        known = self._after.setdefault((node.number, tuple(sorted(models)), span), [])
        found = next((item for item in known if item.holds_for(files)), None)
        if found is None:
            directory = self._copy(node)
            store, asked = TrustStore(directory), _Asked(files)
            before = _sets(directory)
            refusal, detail = None, ""
            try:
                store.refresh(asked, models, reading)
            except TrustRefused as refused:
                refusal, detail = refused.refusal, str(refused)
            for old in _sets(directory)[:-1] if _sets(directory) != before else ():
                shutil.rmtree(old)
            found = _Remembered(asked.asked, self._node(directory, store), refusal, detail)
            known.append(found)
        return found.node, found.refusal, found.detail

    def _node(self, directory: Path, store: TrustStore) -> _Node:
        """The directory, or an older one that no store could tell from it."""
        view = store.trusted()
        state = (store.versions(), view and sorted((m, str(r)) for m, r in view.refused.items()))
        whole = hashlib.sha256()
        for order, made in enumerate(_sets(directory)):
            for path in sorted(made.rglob("*.json")):
                whole.update(
                    f"{order}/{path.relative_to(made)}={_digest(path.read_bytes())}".encode()
                )
        held = whole.hexdigest()
        alike = self._alike.get((held, repr(state)))
        if alike is not None:
            shutil.rmtree(directory)
            return alike
        fresh = _Node(self._made, directory, store, held)
        return self._alike.setdefault((held, repr(state)), fresh)

    def truncated(self, node: _Node, before: tuple[Path, ...]) -> _Node:
        """The newest timestamp.json cut to nothing by a bad disk; the sets before it stay."""
        key = node.number, before
        if key not in self._truncated:
            self._made += 1
            directory = scratch() / f"trust-{self._made}"
            directory.mkdir()
            shutil.copyfile(node.directory / "root.json", directory / "root.json")
            newest = _sets(node.directory)[-1:]
            for number, kept in enumerate([*before, *newest], 1):
                shutil.copytree(kept, directory / "sets" / str(number))
            if newest:
                (directory / "sets" / str(len(before) + 1) / "timestamp.json").write_bytes(b"")
            self._truncated[key] = self._node(directory, TrustStore(directory))
        return self._truncated[key]

    def _copy(self, node: _Node) -> Path:
        self._made += 1
        directory = scratch() / f"trust-{self._made}"
        shutil.copytree(node.directory, directory, symlinks=True)
        return directory


@cache
def trust_memory() -> TrustMemory:
    return TrustMemory()


class Trust:
    """A device's trust store; implements ``muster_agent.app.goals.TrustSource``."""

    def __init__(self) -> None:
        self.node = trust_memory().factory
        self.before: tuple[Path, ...] = ()
        """Older sets on the disk, the oldest first."""

    def refresh(
        self, files: Mapping[str, bytes], models: frozenset[str], reading: ClockReading
    ) -> Trusted:
        node, refusal, detail = trust_memory().refresh(self.node, files, models, reading)
        if node.held != self.node.held:
            self.before = (*self.before, *_sets(self.node.directory)[-1:])[1 - SETS_KEPT :]
        self.node = node
        if refusal is not None:
            raise TrustRefused(refusal, detail)
        trusted = self.trusted()
        assert trusted is not None
        return trusted

    def trusted(self) -> Trusted | None:
        return self.node.store.trusted()

    def versions(self) -> dict[str, int]:
        return self.node.store.versions()

    def now(self, reading: ClockReading) -> Instant:
        return self.node.store.now(reading)

    def files(self) -> dict[str, bytes]:
        return self.node.store.files()

    def truncate(self) -> None:
        self.node = trust_memory().truncated(self.node, self.before)
