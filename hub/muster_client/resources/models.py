"""Models and their versions: push one, see what the hub's check found."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypedDict, cast

from muster_client.answers import Model, Version, VersionDetail
from muster_client.failures import OperatorError, Refused, Rejected, WrongUsage
from muster_client.resources.base import Resource
from muster_client.transport import part
from muster_protocol.wire import manifest, usable
from muster_protocol.wire.errors import ProtocolError

POLL_SECONDS = 0.3
WAIT_SECONDS = 600.0
UNSETTLED = frozenset({"uploaded", "checking", "checked"})
"""States of a version whose check isn't over."""
MANIFEST = "manifest.json"
NOT_FOUND = 404
DAYS = 30


class InUse(TypedDict):
    """A version on the fleet, over some days."""

    devices: int
    """That ran it on the day on which most did."""
    inferences: int
    errors: int
    labels: int
    accuracy: float | None
    mean_absolute_error: float | None
    root_mean_square_error: float | None
    p95_seconds: float | None
    """Of the last day."""


class Compared(TypedDict):
    """One of two versions that are held beside each other."""

    version: VersionDetail
    in_use: InUse


class Progress(Protocol):
    """Who watches a push."""

    def sent(self, file: str, bytes_sent: int, bytes_total: int) -> None:
        """So much of a file has gone."""

    def checking(self, status: str) -> None:
        """All has gone; the hub's check stands so."""


class Models(Resource):
    """Models by name, and their versions."""

    def push(
        self,
        bundle: str | Path,
        *,
        wait_seconds: float | None = WAIT_SECONDS,
        progress: Progress | None = None,
    ) -> VersionDetail:
        """Upload a bundle's folder and wait for the hub's check; ``wait_seconds`` None: don't.

        Raises WrongUsage for a folder that can't be right, Rejected when the check fails, and
        OperatorError when it isn't over in time.
        """
        folder = Path(bundle)
        parsed, encoded = read_manifest(folder)
        with ExitStack() as opened:
            files = {
                entry.path: _Watched(opened, folder / entry.path, entry.path, progress)
                for entry in parsed.files
            }
            self._api.upload(
                f"/models/{part(parsed.model)}/versions",
                encoded,
                cast("dict[str, BinaryIO]", files),
            )
        found = self.show(parsed.model, parsed.version)
        if wait_seconds is None:
            return found
        until = time.monotonic() + wait_seconds
        while found["status"] in UNSETTLED:
            if time.monotonic() >= until:
                raise OperatorError(
                    f"the hub has not settled it after {wait_seconds:g} s (status "
                    f"{found['status']}): look later with `muster model show`"
                )
            if progress is not None:
                progress.checking(found["status"])
            time.sleep(POLL_SECONDS)  # the hub checks in a process of its own
            found = self.show(parsed.model, parsed.version)
        if found["status"] == "rejected":
            words = f"{parsed.model} {parsed.version} was rejected: {reason(found)}"
            raise Rejected(words, found)
        return found

    def list(self) -> Iterator[Model]:
        """Models by name with their versions."""
        return cast("Iterator[Model]", self._api.pages("/models"))

    def versions(self, model: str) -> Model:
        """One model with its versions, the newest first."""
        found: Model = self._api.get(f"/models/{part(model)}")
        return found

    def compare(self, model: str, first: str, second: str, days: int = DAYS) -> Sequence[Compared]:
        """Two versions: what they are, and how they did on the fleet over some days."""
        return [
            Compared(version=self.show(model, version), in_use=self._in_use(model, version, days))
            for version in (first, second)
        ]

    def _in_use(self, model: str, version: str, days: int = DAYS) -> InUse:
        """How a version did on the fleet in the last ``days``, by days in UTC that have begun."""
        path = f"/models/{part(model)}/history"
        points = self._api.get(path, level="day", days=days)["items"]
        return summed([point for point in points if point["version"] == version])

    def next_version(self, model: str) -> str:
        """The whole number after the largest that the model's versions are; 1 for a new model."""
        try:
            known = self.versions(model)["versions"]
        except Refused as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return "1"
        numbers = [int(v["version"]) for v in known if v["version"].isdecimal()]
        return str(max(numbers, default=0) + 1)

    def card(self, model: str, version: str) -> dict[str, Any]:
        """A version's model card: what is measured, and what people say of it."""
        path = f"/models/{part(model)}/versions/{part(version)}/card"
        found: dict[str, Any] = self._api.get(path)
        return found

    def bill(self, model: str, version: str) -> dict[str, Any]:
        """A version's bill of materials, CycloneDX 1.7."""
        path = f"/models/{part(model)}/versions/{part(version)}/bill"
        found: dict[str, Any] = self._api.get(path)
        return found

    def show(self, model: str, version: str) -> VersionDetail:
        """One version: where it comes from, what its check found, its manifest."""
        path = f"/models/{part(model)}/versions/{part(version)}"
        found: VersionDetail = self._api.get(path)
        return found


def summed(points: Sequence[Mapping[str, Any]]) -> InUse:
    """Days of one version together; each day's mean weighs as much as its labels."""

    def mean(name: str, *, power: int = 1) -> float | None:
        known = [(p[name] ** power, p["labels"] or 1) for p in points if p[name] is not None]
        weight = sum(count for _, count in known)
        return (sum(v * count for v, count in known) / weight) ** (1 / power) if known else None

    latencies = [p["p95_seconds"] for p in points if p["p95_seconds"] is not None]
    return {
        "devices": max((p["devices"] for p in points), default=0),
        "inferences": sum(p["n"] for p in points),
        "errors": sum(p["errors"] for p in points),
        "labels": sum(p["labels"] for p in points),
        "accuracy": mean("accuracy"),
        "mean_absolute_error": mean("mean_absolute_error"),
        "root_mean_square_error": mean("root_mean_square_error", power=2),
        "p95_seconds": latencies[-1] if latencies else None,
    }


def read_manifest(bundle: Path) -> tuple[manifest.Manifest, bytes]:
    """A bundle folder's manifest, checked here so that nothing wrong is uploaded."""
    path = bundle / MANIFEST
    try:
        data = path.read_bytes()
        parsed = manifest.decode(data)
        usable.check(parsed)
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    except ProtocolError as error:
        raise WrongUsage(f"{path}: {error}") from None
    for entry in parsed.files:
        file = bundle / entry.path
        if not file.is_file():
            raise WrongUsage(f"{file}: the manifest lists it, it isn't there")
        if file.stat().st_size != entry.size_bytes:
            raise WrongUsage(
                f"{file}: {file.stat().st_size} bytes, the manifest says {entry.size_bytes}: "
                "pack the bundle again"
            )
    if parsed.baseline is not None:
        _check_baseline(parsed, bundle / parsed.baseline)
    return parsed, data


def _check_baseline(parsed: manifest.Manifest, file: Path) -> None:
    """As the hub will; without NumPy, which a baseline needs, that is left to the hub."""
    try:
        from muster_protocol.signals import baseline, watching  # noqa: PLC0415 - need NumPy
    except ModuleNotFoundError:
        return
    try:
        watching.check(parsed, baseline.decode(file.read_bytes()))
    except ProtocolError as error:
        raise WrongUsage(f"{file}: {error}") from None


def reason(version: Version) -> str:
    """Why a version's check failed, in one line."""
    check = version["check"]
    if check["reason"]:
        return check["reason"]
    faults = [f"{build['runtime']}: {build['detail']}" for build in check["builds"]
              if not build["ok"]]  # fmt: skip
    return "; ".join(faults) or "the hub gave no reason"


class _Watched:
    """A file that says how far it was read."""

    def __init__(self, opened: ExitStack, path: Path, name: str, progress: Progress | None) -> None:
        self._file = opened.enter_context(path.open("rb"))
        self._name = name
        self._total = path.stat().st_size
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if self._progress is not None:
            self._progress.sent(self._name, self._file.tell(), self._total)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
