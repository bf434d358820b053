"""A hub's database after some years: ten thousand devices and what was done with them."""

import time
from typing import Any

import msgspec
from sqlmodel import Session

from muster_hub.access.governance import make_token
from muster_hub.alerts import expiry
from muster_hub.api.hub import Hub
from muster_hub.audit import log
from muster_hub.storage import alerting, governance, models
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire.messages import Stamp

SITES = ("berlin", "oslo", "rome")
MODELS, VERSIONS_PER_MODEL = 50, 20
ROLLOUTS, STEPS_PER_ROLLOUT = 2_000, 12
ASSIGNMENTS = 2_000
ALERTS = 10_000
STANDING_ALERTS = 1_000
EVENTS = 50_000
AUDIT_ROWS = 50_000
TOKENS = PEOPLE = 2_000
SILENCES = 500
WEBHOOKS = 32
WINDOWS_OF_ONE = 4_032
"""Of one device: two weeks of five-minute windows."""
MANIFEST_BYTES = 4_096
BUSY = "dev-00042"
DAY = 86_400.0
ROWS_AT_ONCE = 2_000

FEATURES = tuple(f"sensor.{n}" for n in range(8))
USED_HOURS = 48

REPORT: dict[str, Any] = {
    "epoch": 1, "generation": 3, "outbox_rows": 0, "refusal": None, "refusal_detail": "",
    "facts": {
        "agent_version": "0.1.0", "machine": "aarch64", "memory_bytes": 4 << 30,
        "runtimes": {"onnx": "1.32.0", "tflite": "2.3.0"},
    },
    "trust": {
        "versions": {"root": 1, "targets": 3, "snapshot": 9, "timestamp": 40},
        "expires": {"root": 4e9, "targets": 4e9, "snapshot": 4e9, "timestamp": 4e9},
    },
}  # fmt: skip


def fill(hub: Hub, devices: int) -> dict[str, str]:
    """Fill a new hub's database. Returns tokens by name: an admin's, and one limited to a site."""
    now = time.time()
    with hub.store.write() as session:
        _devices(session, devices, now)
        _registry(session, now)
        _rollouts(session, devices, now)
        _assignments(session, now)
        _alerts_and_events(session, devices, now)
        _people(session, now)
        _windows(session, now)
        _drift(session, devices, now)
        _audit(session, now)
        return {
            "admin": make_token(session, "bench", "admin", now),
            "limited": make_token(
                session, "limited", "operator", now, models=["model-0*"], selector="site=oslo"
            ),
        }


def _report(n: int, now: float) -> dict[str, Any]:
    """What a device says; no two say the same."""
    running = {
        "model": "model-00", "version": "2", "manifest": "ab" * 32, "runtime": "onnx",
        "since": ["Ym9vdA==", float(n), now - n, "synchronised"],
    }  # fmt: skip
    update = {"state": "committed", "detail": "", "refusal": None}
    return REPORT | {
        "slots": {"vision": {"running": running, "update": update, "health": "ok"}},
        "boot": f"{n:032x}",
    }


def name_of(device: int) -> str:
    return f"dev-{device:05}"


def _devices(session: Session, devices: int, now: float) -> None:
    _add(
        session,
        (
            models.Device(
                id=name_of(n), created=now, online=n % 20 > 0, last_seen=now, reported=now,
                report=_report(n, now), certificate_expires=now + DAY * (n % 1000),
                late_from=expiry.late_from(REPORT),
                labels={"site": SITES[n % 3], "line": str(n % 8), "cell": str(n % 100)},
            )
            for n in range(devices)
        ),
    )  # fmt: skip
    goal = {"model": "model-00", "version": "2", "manifest": "ab" * 32}
    payload = msgspec.json.encode({"slots": {"vision": {"champion": goal}}})
    _add(
        session,
        (
            models.DirectiveRow(
                device=name_of(n), epoch=1, generation=3, content_sha256="0" * 64, payload=payload,
                envelope=b"{}", issued=now, expires=now + 1e6,
            )
            for n in range(devices)
        ),
    )  # fmt: skip


def _registry(session: Session, now: float) -> None:
    _add(session, (models.Model(name=f"model-{n:02}", created=now) for n in range(MODELS)))
    _add(
        session,
        (
            models.Version(
                model=f"model-{n:02}", version=str(v), manifest_sha256=f"{n:032}{v:032}",
                manifest=b"x" * MANIFEST_BYTES, status="published", size_bytes=1 << 20,
                created=now - DAY * (VERSIONS_PER_MODEL - v), created_by="token:ci",
                lineage={"source": "git.example/models", "commit": "1f2e3d4c"},
                check={"ok": True, "reason": "", "builds": [{"runtime": "onnx", "ok": True}]},
            )
            for n in range(MODELS)
            for v in range(1, VERSIONS_PER_MODEL + 1)
        ),
    )  # fmt: skip


def _rollouts(session: Session, devices: int, now: float) -> None:
    plan = {
        "canary": 0.05, "strata": ["site"], "holdback": 60, "min_soak_seconds": 3600.0,
        "waves": [{"share": 0.25}, {"share": 0.5}],
        "budgets": [{"group_by": ["line"], "max_unavailable": 1}],
        "gate": {"metrics": ["errors", "missing windows"], "looks": 96},
    }  # fmt: skip
    _add(
        session,
        (
            models.Rollout(
                id=n, model=f"model-{n % MODELS:02}", version="2", manifest="ab" * 32,
                slot="vision", selector=("", "site=oslo", "site=berlin,line=3")[n % 3],
                state="completed" if n < ROLLOUTS else "running", plan=plan, wave=4,
                reason=f"Completed: {devices} committed.", created=now - DAY * (ROLLOUTS - n) / 5,
                created_by="ci", updated=now,
            )
            for n in range(1, ROLLOUTS + 1)
        ),
    )  # fmt: skip
    _add(
        session,
        (
            models.RolloutStep(
                rollout=n, at=now, state="running", wave=0, why="gate",
                reason="Look 4: Not enough evidence: errors 1.08× (0.85–1.37).",
                devices=[name_of(d) for d in range(5)],
            )
            for n in range(1, ROLLOUTS + 1)
            for _ in range(STEPS_PER_ROLLOUT)
        ),
    )  # fmt: skip
    _add(
        session,
        (
            models.RolloutDevice(
                rollout=ROLLOUTS, device=name_of(n), wave=n % 4, state="committed", generation=3,
                targeted_at=now, changed_at=now,
            )
            for n in range(devices)
        ),
    )  # fmt: skip


def _assignments(session: Session, now: float) -> None:
    _add(
        session,
        (
            models.Assignment(
                id=n, slot=f"slot-{n % 4}", selector=f"site={SITES[n % 3]},cell={n}",
                model=f"model-{n % MODELS:02}", version="2", precedence=n, created=now,
            )
            for n in range(1, ASSIGNMENTS + 1)
        ),
    )  # fmt: skip


def _alerts_and_events(session: Session, devices: int, now: float) -> None:
    _add(
        session,
        (
            models.Alert(
                key=f"drift/{name_of(n % devices)}/{n}", device=name_of(n % devices), kind="drift",
                severity="warning", state="open" if n >= ALERTS - STANDING_ALERTS else "resolved",
                opened=now - (ALERTS - n), updated=now, title=f"{name_of(n % devices)} drifts",
                detail={"model": "model-00", "features": ["image.brightness"]},
            )
            for n in range(ALERTS)
        ),
    )  # fmt: skip
    _add(
        session,
        (
            models.EventRow(
                device=name_of(n % devices), kind=("update", "note")[n % 2],
                model=f"model-{n % MODELS:02}", received=now - (EVENTS - n), detail="committed",
                data={"state": "committed"},
            )
            for n in range(EVENTS)
        ),
    )  # fmt: skip
    _add(
        session,
        (
            alerting.Silence(
                selector=f"cell={n % 100}", until=now + DAY, by="token:ci", created=now
            )
            for n in range(SILENCES)
        ),
    )  # fmt: skip
    _add(
        session,
        (
            alerting.Webhook(
                name=f"hook-{n:02}", url="https://pager.example/muster", notices=["opened"],
                causes=[], secret=b"x" * 60, secret_made=now, created=now, created_by="token:ci",
            )
            for n in range(WEBHOOKS)
        ),
    )  # fmt: skip


def _people(session: Session, now: float) -> None:
    _add(
        session,
        (
            models.ApiToken(
                hash=f"{n:064}", id=f"{n:016}", name=f"token-{n}", role="viewer", created=now
            )
            for n in range(TOKENS)
        ),
    )  # fmt: skip
    _add(
        session,
        (
            governance.Person(
                name=f"person-{n:05}@example.com", role="viewer", created=now, created_by="token:ci"
            )
            for n in range(PEOPLE)
        ),
    )  # fmt: skip


def _windows(session: Session, now: float) -> None:
    at = Stamp(b"boot", 0.0, now, "synchronised")
    payload = summary_wire.encode(
        Summary(
            model="model-00", version="2", manifest="ab" * 32, opened=at, closed=at,
            counts=Tally(inferences=3000, errors_input=3),
        )
    )  # fmt: skip
    _add(
        session,
        (
            models.SummaryWindow(
                device=BUSY, epoch="00" * 12, sequence=n, model="model-00", version="2",
                manifest="ab" * 32, start=now - 300.0 * (WINDOWS_OF_ONE - n), seconds=300.0,
                n=3000, received=now, payload=payload, folded=True,
            )
            for n in range(WINDOWS_OF_ONE)
        ),
    )  # fmt: skip


def _drift(session: Session, devices: int, now: float) -> None:
    """What the monitor says of each device, one in fifty of which drifts; the fleet's hours."""
    finding = {"since": now - 900.0, "score": 8.25, "p": 1e-9, "shift": 1.5, "kind": "mean"}
    _add(
        session,
        (
            models.DriftState(
                device=name_of(n), manifest="ab" * 32, state=b"x" * 2000, updated=now,
                alarming=n % 50 == 0,
                view={
                    "model": "model-00", "version": "2", "inputs": {}, "labels": {},
                    "confidence": {}, "calibration": dict.fromkeys(FEATURES, "calibrated"),
                    "drifting": [FEATURES[n % 8]] if n % 50 == 0 else [],
                    "findings": {FEATURES[n % 8]: finding} if n % 50 == 0 else {},
                },
            )
            for n in range(devices)
        ),
    )  # fmt: skip
    _add(
        session,
        (
            models.Rollup(
                level=level, device="", manifest=f"{v:064}", start=now - seconds * (n + 1),
                model="model-00", version=str(v), n=3000 * devices, payload=b"",
            )
            for level, seconds in (("hour", 3600.0), ("day", DAY))
            for n in range(USED_HOURS)
            for v in (1, 2)
        ),
    )  # fmt: skip


def _audit(session: Session, now: float) -> None:
    log.append(session, actor="hub", action="bench", subject="fill", now=now)
    rows = []
    previous = session.exec(log.in_order().limit(1000)).all()[-1].hash
    for n in range(AUDIT_ROWS):
        row = models.Audit(
            at=now, actor="token:ci", action="device.relabel", subject=name_of(n % 10_000),
            detail={"labels": {"site": "oslo"}, "number": n}, previous=previous, hash="",
        )  # fmt: skip
        previous = row.hash = log.seal(row)
        rows.append(row)
    _add(session, rows)


def _add(session: Session, rows: Any) -> None:
    """In batches, forgotten once they are written."""
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            _flush(session, batch)
            batch = []
    _flush(session, batch)


def _flush(session: Session, batch: list[Any]) -> None:
    session.add_all(batch)
    session.flush()
    session.expunge_all()
