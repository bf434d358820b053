"""Sampling: rows of raw data that devices send because people and release keys let them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

from muster_client.resources.base import Resource

Privacy = Literal["plain", "blur", "hash"]
Stratum = Literal["random", "low_confidence", "drifting", "by_class"]
LABELS_AT_ONCE = 1_000


class SamplePolicy(TypedDict):
    """What devices are asked to send."""

    id: int
    model: str
    version: str
    manifest: str
    selector: str
    asked: dict[str, Any]
    bytes_max: int
    created: float
    created_by: str
    expires: float
    reason: str
    ended: float | None
    ended_by: str
    ended_reason: str
    rows: int
    bytes: int


class Sample(TypedDict):
    """A sample that came, without what it holds."""

    id: int
    sha256: str
    device: str
    slot: str
    stratum: str
    taken: float
    received: float
    size_bytes: int
    label: str | None
    labelled_by: str


class Sampling(Resource):
    """Sampling policies by their numbers."""

    def list(self, limit: int | None = None) -> Iterator[SamplePolicy]:
        """Policies, the newest first."""
        return cast("Iterator[SamplePolicy]", self._api.pages("/sampling", limit))

    def show(self, policy: int) -> SamplePolicy:
        """One policy."""
        found: SamplePolicy = self._api.get(f"/sampling/{policy}")
        return found

    def begin(
        self,
        model: str,
        version: str,
        features: Mapping[str, Privacy],
        *,
        rows_per_day: int,
        strata: Sequence[Stratum] = ("random",),
        where: str = "",
        days: float = 7.0,
        answers: bool = False,
        confidence_below: float = 0.6,
        reason: str = "",
    ) -> SamplePolicy:
        """Ask devices that run a version for rows of what it sees; what isn't named is dropped.

        The hub refuses what the version's release doesn't allow, and so does each device.
        """
        found: SamplePolicy = self._api.post(
            "/sampling",
            {
                "model": model,
                "version": version,
                "selector": where,
                "features": dict(features),
                "rows_per_day": rows_per_day,
                "strata": [*strata],
                "days": days,
                "answers": answers,
                "confidence_below": confidence_below,
                "reason": reason,
            },
        )
        return found

    def end(self, policy: int, *, reason: str = "") -> SamplePolicy:
        """Ask for no more rows: devices delete what waits there."""
        found: SamplePolicy = self._api.post(f"/sampling/{policy}/end", {"reason": reason})
        return found

    def samples(self, policy: int, limit: int | None = None) -> Iterator[Sample]:
        """The samples that came, in that order."""
        return cast("Iterator[Sample]", self._api.pages(f"/sampling/{policy}/samples", limit))

    def download(self, policy: int) -> bytes:
        """All samples with what they hold, as JSON Lines."""
        return self._api.raw(f"/sampling/{policy}/samples.jsonl")

    def label(self, policy: int, labels: Mapping[str, str]) -> int:
        """Say what the right answers are, by the samples' SHA-256; how many samples that were."""
        done, items = 0, sorted(labels.items())
        for first in range(0, len(items), LABELS_AT_ONCE):
            part = dict(items[first : first + LABELS_AT_ONCE])
            done += self._api.post(f"/sampling/{policy}/labels", {"labels": part})["samples"]
        return done

    def forget(self, policy: int) -> int:
        """End the policy and delete its samples everywhere; how many were at the hub."""
        gone: int = self._api.post(f"/sampling/{policy}/forget")["samples"]
        return gone
