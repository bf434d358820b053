"""One device: what it proves to run against what it should, what it waits for, what it sent."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from muster_hub.access.leave import Leave
from muster_hub.alerts import reading as alerts_reading
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.console.rendering import render
from muster_hub.fleet import diagnosing, feed_watching
from muster_hub.fleet import reading as fleet_reading
from muster_hub.monitoring import reading as monitoring_reading

router = APIRouter(route_class=OnceRoute)
REPORT: dict[str, Any] = {
    "generation": 0, "refusal": None, "refusal_detail": "", "outbox_rows": 0,
    "outbox_waiting_for": "",
}  # fmt: skip
"""What a report leaves out because it is as always."""
FACTS: dict[str, Any] = {
    "agent_version": "", "machine": "", "python": "", "runtimes": {}, "providers": {},
    "memory_bytes": None, "disk_free_bytes": None, "isolation": "", "key": "", "energy": "",
}  # fmt: skip
UPDATE: dict[str, Any] = {
    "state": "idle", "waiting_for": "", "refusal": None, "detail": "", "bytes_done": 0,
    "bytes_total": 0,
}  # fmt: skip
CHALLENGER: dict[str, Any] = {"state": "", "waiting_for": "", "detail": ""}
UNREAD: dict[str, Any] = {"p95_seconds": None, "accuracy": None, "energy_joules": None}
"""Of a window that can't be read."""
WINDOWS = 60
WINDOWS_LISTED = 12
EVENTS = 30


@router.get("/devices/{device}")
def device(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("device.read")], device: str
) -> Response:
    """One device's page."""
    scope, now = leave.actor.scope, hub.clock()
    with hub.store.read() as session:
        row = leave.device(session, device)
        answered = diagnosing.answer(session, row) if row.diagnoses and not scope.models else None
        watched = None if scope.models else feed_watching.view(row, now)
        found = fleet_reading.device(session, scope, device, now)
        assert found is not None
        windows = monitoring_reading.windows(
            session, scope, device, model=None, before=None, limit=WINDOWS
        )
        counts = monitoring_reading.totals(session, scope, device)
        events = fleet_reading.latest_events(session, scope, device, EVENTS)
        alerts = alerts_reading.of_device(session, scope, device)
    report = found["report"] or {}
    facts = report.get("facts") or {}
    return render(
        request,
        "device.html",
        device=found,
        report=REPORT | report,
        facts=FACTS | facts if facts else None,
        agent={"version": ""} | UPDATE | own if (own := facts.get("agent_update")) else None,
        slots=[_slot(found, name) for name in _slot_names(found, report)],
        windows=[UNREAD | row for row in windows[:WINDOWS_LISTED]],
        pace=[(row["start"], float(row["n"])) for row in reversed(windows)],
        latency=[
            (row["start"], row["p95_seconds"] * 1000)
            for row in reversed(windows)
            if row.get("p95_seconds") is not None
        ],
        energy=[
            (row["start"], row["energy_joules"] * 1000 / row["n"])
            for row in reversed(windows)
            if row.get("energy_joules") is not None and row["n"]
        ],
        counts=counts,
        diagnosis=answered,
        feeds=watched,
        events=events,
        alerts=alerts,
    )


def _slot_names(found: dict[str, Any], report: dict[str, Any]) -> list[str]:
    return sorted({*found["desired"], *(report.get("slots") or {})})


def _slot(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Side by side: what is wanted in a slot, what is proved to run, what is only said."""
    said = ((found["report"] or {}).get("slots") or {}).get(name) or {}
    wanted, proved = found["desired"].get(name), found["proved"].get(name)
    running = found["running"].get(name)
    update, challenger = said.get("update") or {}, said.get("challenger")
    return {
        "name": name,
        "wanted": wanted,
        "proved": proved,
        "running": running,
        "verdict": _verdict(wanted, proved, running),
        "health": said.get("health", ""),
        "reason": said.get("reason", ""),
        "feed": said.get("feed", ""),
        "fallback": said.get("fallback", False),
        "calibration": said.get("calibration", ""),
        "progress": UPDATE | update,
        "done": _share(update),
        "challenger": CHALLENGER | challenger if challenger else None,
        "assigned": said.get("assigned", True),
    }


def _verdict(wanted: Any, proved: Any, running: Any) -> tuple[str, str]:
    """The word for a slot, and what it means."""
    if wanted is None:
        return "calm", "nothing is wanted here"
    if proved is not None and proved["manifest"] == wanted["manifest"]:
        return "good", "proved: signed by the device's identity key"
    if running is not None and running["manifest"] == wanted["manifest"]:
        return "wait", "said, not proved: the report isn't signed"
    return "busy", "not yet"


def _share(update: dict[str, Any]) -> float | None:
    total = update.get("bytes_total") or 0
    return min((update.get("bytes_done") or 0) / total, 1.0) if total else None
