"""A hub's database with something of everything that its metrics count."""

from muster_hub.api.hub import Hub
from muster_hub.storage.models import Alert, Device, Model, Rollout, Rollup, Version
from muster_hub.storage.registry import LoopRow


def fill(hub: Hub, *, devices: int, now: float) -> None:
    """Devices that run a model and drift, a rollout, two open alerts, a day of inferences."""
    running = {"slots": {"main": {"running": {"model": "pump", "version": "1.0.0"}}}}
    with hub.store.write() as session:
        for number in range(devices):
            session.add(
                Device(
                    id=f"d-{number}", created=now, online=True, last_seen=now, reported=now,
                    report=running,
                )
            )  # fmt: skip
        session.add(Device(id="asks", created=now, approved=False))
        session.add(Device(id="gone", created=now, revoked=True, report=running))
        session.add(Model(name="pump", created=now))
        session.flush()
        session.add(
            Version(
                model="pump", version="1.0.0", manifest_sha256="0" * 64, manifest=b"{}",
                status="published", size_bytes=1, created=now, created_by="ann",
            )
        )  # fmt: skip
        session.flush()
        session.add(
            Rollout(
                model="pump", version="1.0.0", manifest="0" * 64, slot="main", selector="",
                state="running", created=now, created_by="ann", updated=now,
            )
        )  # fmt: skip
        for state, ended, run, result in (
            ("closed", now, "run-1", "succeeded"), ("training", None, "run-2", "running"),
        ):  # fmt: skip
            session.add(LoopRow(model="pump", state=state, opened=now - 60, since=now,
                                deadline=now + 9, ended=ended, cause="drift", opened_by="hub",
                                run=run, run_state=result))  # fmt: skip
        session.add(
            Alert(
                key="drift/d-0", device="d-0", kind="drift", severity="warning", state="open",
                opened=now, updated=now, title="drifts",
                detail={"model": "pump", "features": ["heat", "noise"]},
            )
        )  # fmt: skip
        session.add(
            Alert(
                key="silent/d-0", device="d-0", kind="silent", severity="critical", state="open",
                opened=now, updated=now, title="silent",
            )
        )  # fmt: skip
        for device in ("d-0", ""):
            session.add(
                Rollup(
                    level="day", device=device, manifest="0" * 64, start=now - 86_400, model="pump",
                    version="1.0.0", windows=2, n=40, errors=3, payload=b"",
                )
            )  # fmt: skip
