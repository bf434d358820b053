"""Which TUF files to follow at the broker, and when enough of them has come. Pure.

Nothing here is trusted. Timestamp and snapshot are read only for the names to ask for next; what
they say is believed after ``trust_store`` has verified it. A file that does not exist answers with
silence, so "absent" means: followed for ``absent_seconds`` and nothing came. On a slow link it is
counted from when the broker has taken the subscription: until then it may be under way.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from muster_protocol.wire import limits, manifest

TIMESTAMP = "timestamp.json"
ROOT_ROTATIONS_MAX = 32
"""New roots taken in one cycle; a device that is further behind goes on in the next."""
MODELS_MAX = 2 * limits.SLOTS_MAX
ABSENT_SECONDS = 3.0
UNCONFIRMED_SECONDS = 90.0
"""How long a broker may take to confirm a subscription: a dead link is noticed by then."""
MODEL_ROLE_PREFIX = "model-"

_Version = Annotated[int, Meta(ge=1, le=999_999_999)]


class _Meta(Struct):
    version: _Version


class _Listing(Struct):
    """``signed`` of a timestamp or a snapshot, as far as it names itself and other files."""

    version: int
    """Bounded by nothing: a stolen key may have signed any, which only a new root undoes."""
    meta: dict[str, _Meta]


class _Envelope(Struct):
    signed: _Listing


class TrustMirror:
    """Collects files until a verification cycle is worth running.

    ``now`` is monotonic seconds. ``versions`` are those of the trusted metadata by file stem.
    """

    def __init__(
        self,
        versions: Mapping[str, int],
        models: frozenset[str] = frozenset(),
        *,
        now: float,
        absent_seconds: float = ABSENT_SECONDS,
    ) -> None:
        self._versions = dict(versions)
        self._models = models
        self._absent_seconds = absent_seconds
        self._files: dict[str, bytes] = {}
        self._since: dict[str, float] = {}
        self._news = False
        self._unconfirmed: set[str] = set()
        self._follow(now)

    @property
    def coming(self) -> bool:
        """Whether the broker has yet to confirm a subscription."""
        return bool(self._unconfirmed)

    @property
    def files(self) -> Mapping[str, bytes]:
        """Metadata files that the broker holds, by name."""
        return self._files

    @property
    def models(self) -> frozenset[str]:
        """Models whose roles are followed."""
        return self._models

    def wanted(self) -> frozenset[str]:
        """The files to be subscribed to now."""
        return frozenset(self._since)

    def follow(self, models: frozenset[str], now: float) -> None:
        """Replace the models whose roles are mirrored; a new one needs a cycle."""
        kept = frozenset(sorted(models)[:MODELS_MAX])
        self._news = self._news or bool(kept - self._models)
        self._models = kept
        self._follow(now)

    def link_up(self, now: float) -> None:
        """The link was made anew: what was silent before may speak now."""
        self._since = dict.fromkeys(self._since, now)

    def link_down(self) -> None:
        """No broker will confirm what it was asked."""
        self._unconfirmed.clear()

    def asked(self, files: Iterable[str]) -> None:
        """The broker is being asked for these, and will confirm it."""
        self._unconfirmed |= set(files) & self._since.keys()

    def confirmed(self, files: Iterable[str], now: float) -> None:
        """It has taken these subscriptions: from now on its silence means something."""
        for file in self._unconfirmed.intersection(files):
            self._unconfirmed.discard(file)
            self._since[file] = now

    def ask_again(self) -> None:
        """Run a cycle although nothing came: the clock was set, or time went by."""
        self._news = True

    def put(self, file: str, data: bytes, now: float) -> None:
        """A file has come. Only what is wanted is kept; too large a one is kept cut, to be
        refused by name.
        """
        if file not in self._since or self._files.get(file) == data:
            return
        if file == TIMESTAMP and self._brings_nothing(data):
            return
        self._files[file] = data[: limits.TUF_METADATA_BYTES_MAX + 1]
        self._news = True
        self._follow(now)

    def _brings_nothing(self, timestamp: bytes) -> bool:
        """One no newer than what is trusted, while one is here that says it is newer: what comes
        late, or twice, must not end a cycle that is under way.
        """
        come, held = _signed(timestamp), _signed(self._files.get(TIMESTAMP, b""))
        if come is None or held is None:
            return False
        return come.version <= self._versions.get("timestamp", 0) < held.version

    def settled(self, now: float) -> bool:
        """Everything wanted has come, or been silent for long enough."""
        return TIMESTAMP in self._files and self._silence_left(now) <= 0

    def due(self, now: float) -> bool:
        """Something new came and nothing more is to be expected: run a cycle."""
        return self._news and self.settled(now)

    def next_check(self, now: float) -> float | None:
        """Seconds until silence alone may make a cycle due; None when it can't."""
        if not self._news or TIMESTAMP not in self._files:
            return None
        return max(self._silence_left(now), 0.0)

    def refreshed(self, versions: Mapping[str, int], now: float) -> None:
        """A cycle ran, whatever came of it; ``versions`` are trusted now."""
        self._versions = dict(versions)
        self._news = False
        self._follow(now)

    def _silence_left(self, now: float) -> float:
        waits = [
            since + self._patience(file) - now
            for file, since in self._since.items()
            if file not in self._files
        ]
        return max(waits, default=0.0)

    def _patience(self, file: str) -> float:
        return UNCONFIRMED_SECONDS if file in self._unconfirmed else self._absent_seconds

    def _follow(self, now: float) -> None:
        wanted = {TIMESTAMP, *self._roots()}
        snapshot = self._listed(TIMESTAMP).get("snapshot.json")
        if snapshot is not None:
            wanted |= self._leaves(snapshot)
        self._since = {file: self._since.get(file, now) for file in sorted(wanted)}
        self._files = {file: data for file, data in self._files.items() if file in wanted}
        self._unconfirmed &= wanted

    def _roots(self) -> set[str]:
        """The roots that have come since the trusted one, and the one after them."""
        first = self._versions.get("root", 0) + 1
        roots = set()
        for version in range(first, first + ROOT_ROTATIONS_MAX):
            file = f"{version}.root.json"
            roots.add(file)
            if file not in self._files:
                break
        return roots

    def _leaves(self, snapshot: int) -> set[str]:
        """The snapshot the timestamp names and the roles of ours that it lists."""
        file = f"{snapshot}.snapshot.json"
        stems = ("targets", *map(manifest.role_name, self._models))
        leaves = set()
        # Even a trusted snapshot is asked for again when a role is to be found by it.
        if snapshot != self._versions.get("snapshot") or not self._versions.keys() >= set(stems):
            leaves.add(file)
        listed = self._listed(file)
        for stem in stems:
            version = listed.get(f"{stem}.json")
            if version is not None and version != self._versions.get(stem):
                leaves.add(f"{version}.{stem}.json")
        return leaves

    def _listed(self, file: str) -> dict[str, int]:
        signed = _signed(self._files.get(file, b""))
        return {} if signed is None else {name: meta.version for name, meta in signed.meta.items()}


def _signed(data: bytes) -> _Listing | None:
    """What a file claims; None when it can't be read."""
    try:
        return msgspec.json.decode(data, type=_Envelope).signed
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
