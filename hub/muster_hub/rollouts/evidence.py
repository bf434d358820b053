"""What a device's reports and events prove about one release in one slot. Pure.

Success is what the device says of itself after probation: COMMITTED with this very manifest.
Failure is a refusal, a roll back or a worker's death of this very manifest, told since the device
was asked to run it. Nothing else counts either way: an old refusal still shown in a report, or a
directive-level complaint that names no manifest, decides nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from muster_protocol.wire import agent_release

FAILING_EVENTS = frozenset({"refused", "rolled_back", "worker_died"})
Progress = Literal["unseen", "in_progress", "committed", "failed"]


@dataclass(frozen=True, kw_only=True)
class DeviceEvidence:
    """How far a device has come with a release, by its report and events."""

    stage: Progress
    detail: str = ""
    """In words: the state and progress, or the refusal."""
    fetch_seconds: float = 0.0
    """In which bytes of the release came in, as the device says."""
    restarts: bool = False
    """It has gone offline to try the release, or is about to: it is waited for all the same."""


@dataclass(frozen=True, kw_only=True)
class DeviceEvent:
    """An event a device told, as far as evidence reads it."""

    kind: str
    slot: str
    manifest: str
    generation: int
    received: float
    refusal: str | None = None
    detail: str = ""


def read(
    report: Mapping[str, Any] | None,
    events: Iterable[DeviceEvent],
    *,
    slot: str,
    manifest: str,
    generation: int,
    targeted_at: float,
) -> DeviceEvidence:
    """Evidence about ``manifest`` in ``slot`` since directive ``generation`` asked for it.

    ``report`` is the latest ``messages.Report`` as plain values.
    """
    failure = _failed_event(events, slot, manifest, generation, targeted_at)
    if failure is not None:
        return failure
    return _reported(report, slot, manifest, generation)


def _failed_event(
    events: Iterable[DeviceEvent], slot: str, manifest: str, generation: int, targeted_at: float
) -> DeviceEvidence | None:
    for event in events:
        about = event.manifest == manifest and event.slot in ("", slot)
        if event.kind not in FAILING_EVENTS or not about:
            continue
        since = (
            event.generation >= generation if event.generation else event.received >= targeted_at
        )
        if since:
            return _failed(event.kind, event.refusal, event.detail)
    return None


def _reported(
    report: Mapping[str, Any] | None, slot: str, manifest: str, generation: int
) -> DeviceEvidence:
    found = _place(report or {}, slot)
    if found is None:
        return DeviceEvidence(stage="unseen", detail="no report of this slot yet")
    update = found.get("update") or {}
    state = update.get("state", "idle")
    running = (found.get("running") or {}).get("manifest") == manifest
    about = update.get("manifest") == manifest
    settled = state in ("idle", "committed") or (not about and state == "failed")
    if running and settled:
        return DeviceEvidence(stage="committed")
    if about and state in ("failed", "rolling_back"):
        if update.get("generation", 0) < generation:
            return DeviceEvidence(stage="unseen", detail="still shows an earlier attempt")
        return _failed(state, update.get("refusal"), update.get("detail", ""))
    if about and state not in ("idle", "committed"):
        seconds = float(update.get("fetch_seconds", 0.0))
        return DeviceEvidence(
            stage="in_progress",
            detail=_progress(update),
            fetch_seconds=seconds,
            restarts=slot == agent_release.NAME and state in ("starting", "probation"),
        )
    return DeviceEvidence(stage="unseen", detail="has not begun")


def _place(report: Mapping[str, Any], slot: str) -> Mapping[str, Any] | None:
    """What a report says of a slot, or of the agent itself in the same form."""
    if slot != agent_release.NAME:
        found: Mapping[str, Any] | None = (report.get("slots") or {}).get(slot)
        return found
    update = (report.get("facts") or {}).get("agent_update")
    if update is None:
        return None
    runs = update.get("state") == "committed"
    return {"update": update, "running": {"manifest": update.get("manifest")} if runs else None}


def _progress(update: Mapping[str, Any]) -> str:
    words = str(update["state"]).replace("_", " ")
    total = update.get("bytes_total", 0)
    if update["state"] == "fetching" and total:
        words += f" {update.get('bytes_done', 0) / 1e6:.1f} of {total / 1e6:.1f} MB"
    if update.get("waiting_for"):
        words += f", waiting for {update['waiting_for']}"
    return words


def _failed(what: str, refusal: str | None, detail: str) -> DeviceEvidence:
    words = refusal or what
    return DeviceEvidence(stage="failed", detail=f"{words}: {detail}" if detail else words)
