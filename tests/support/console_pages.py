"""Every page of the console, by its routes, and a hub that is filled with all that pages show.

A page that is added has its examples made from its address; where a part of that is new, or a page
shows more when asked for it, ``VALUES`` and ``QUERIES`` say so, and a test fails until they do.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import quote

import msgspec
from fastapi.routing import APIRoute
from sqlmodel import Session

from muster_hub.access.governance import make_token
from muster_hub.access.links import make_link
from muster_hub.audit import log
from muster_hub.console import site
from muster_hub.fleet.feed_settings import NAMES_MAX
from muster_hub.storage import alerting, governance, models
from muster_hub.storage.feeds import FeedSettingRow
from muster_hub.storage.registry import LoopRow
from muster_hub.storage.sampling import SamplingPolicyRow
from muster_protocol.signals import baseline, binning, summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import explanation, manifest
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.explanation import CurvePoint, ExplainedFeature, Explanation
from muster_protocol.wire.listing import cut_file
from support import summaries
from support.console_kit import report
from support.hub_kit import Kit
from support.hub_store import stamp
from support.models import write_bundle

MODEL, DEVICE, ROLLOUT = "digits", "cam-0000", 1
FEATURE = "temperature"
HOSTILE = "<script>alert(1)</script>'\"&\u202egpj\u202c".ljust(64, "x")
"""The longest name a device may have; no address holds it: it turns text around."""
LINK = "{link}"
"""Stands for a new link's code: it is known only once the hub is there."""
NO_PAGES: Final[Mapping[str, str]] = {
    "/static/{name}": "a file",
    "/live": "a stream of events",
    "/trust/requests/{role}": "a download",
    "/sign-in-oidc": "leads to the issuer",
    "/sign-in-callback": "leads back from the issuer",
}
VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "device": (DEVICE,),
    "feature": (FEATURE,),
    "feed": ("press",),
    "model": (MODEL,),
    "loop": ("1", "2"),
    "rollout": (str(ROLLOUT),),
    "version": ("1",),
}
"""Of each part of an address that isn't one of a few words."""
QUERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "/": ("", "?q=cam-00", "?state=waiting&q=site=berlin", "?q=site=(("),
    "/audit": ("", "?actor=ada&before=40"),
    "/bulk": ("", *(f"?q=site=berlin&act={act}" for act in ("label", "retry", "revoke")),
              f"?q=site=berlin&act=rebaseline&model={MODEL}",
              "?q=site=berlin&act=label&key=line&value=9"),
    "/feeds": ("", "?after=limits-0"),
    "/loops": ("", "?before=5"),
    "/drift": ("", f"?model={MODEL}&site=berlin"),
    "/models/{model}": ("", "?left=1&right=2"),
    "/rollouts/new": ("", f"?model={MODEL}&version=1"),
    "/sign-in-link": (f"?code={LINK}",),
}  # fmt: skip
"""What each page is asked besides its address; without an entry, nothing."""


def routes() -> dict[str, APIRoute]:
    """All that a browser can look at, by its path."""
    return {
        route.path: route
        for page in site.PAGES
        for route in page.router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }


def examples() -> list[str]:
    """Addresses of every page, each choice of its acts among them."""
    return [
        path + query
        for template, route in sorted(routes().items())
        if template not in NO_PAGES
        for path in _paths(template, route)
        for query in QUERIES.get(template, ("",))
    ]


def _paths(template: str, route: APIRoute) -> list[str]:
    hints = get_type_hints(route.endpoint)
    names = re.findall(r"{(\w+)", template)
    unknown = [name for name in names if name not in VALUES and not _words(hints[name])]
    assert not unknown, f"{template}: name an example of {unknown[0]!r} in VALUES"
    plain = re.sub(r":path}", "}", template)
    choices = [_words(hints[name]) or VALUES[name] for name in names]
    return [plain.format(**dict(zip(names, chosen, strict=True))) for chosen in product(*choices)]


def _words(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def address(kit: Kit, example: str, device: str = DEVICE) -> str:
    """An example as it is asked of this hub, about this device."""
    found = example.replace(DEVICE, quote(device, safe=""))
    if LINK in found:
        with kit.hub.store.write() as session:
            found = found.replace(LINK, make_link(session, "guest", "viewer", kit.clock()))
    return found


class Filled:
    """Fills a hub with ``count`` of everything. ``names`` are those of the first devices; ``text``
    stands wherever somebody may have written something."""

    def __init__(
        self,
        kit: Kit,
        folder: Path,
        count: int,
        names: Sequence[str] = (DEVICE,),
        text: str = "as planned",
    ) -> None:
        self.kit, self.now, self.count, self.text = kit, kit.clock(), count, text
        self.names = [*names, *(f"cam-{number:04}" for number in range(len(names), count))]
        self.baseline = summaries.fitted()
        _, self.manifest = write_bundle(
            folder, model=MODEL, trained=baseline.encode(self.baseline)
        )  # fmt: skip
        self.manifest = _explained(folder)
        for file in folder.iterdir():
            kit.hub.blobs.put(file.read_bytes())
        with kit.hub.store.write() as session:
            self._registry(session, (folder / "manifest.json").read_bytes())
            self._devices(session)
            self._drift(session)
            self._rollouts(session)
            self._alerts_and_events(session)
            self._loops(session)
            self._feed_settings(session)
            self._people(session)

    def _registry(self, session: Session, data: bytes) -> None:
        made = manifest.decode(data)
        for number in range(self.count):
            session.add(models.Model(name=f"{MODEL}-{number}" if number else MODEL, created=1.0))
        session.flush()
        for number in range(1, self.count + 1):
            changed = msgspec.structs.replace(made, version=str(number))
            session.add(
                models.Version(
                    model=MODEL, version=str(number), created=self.now - 86_400.0 - number,
                    manifest=data if number == 1 else manifest.encode(changed),
                    manifest_sha256=self.manifest if number == 1 else f"{number:064}",
                    status="awaiting_approval" if number == 2 else "published", size_bytes=number,
                    created_by="ada", lineage={"source": self.text, "metrics": {"accuracy": 0.9}},
                    check={"ok": True, "reason": "", "gates": [
                        {"gate": "size", "ok": True, "says": self.text}], "builds": [
                        {"runtime": "onnx", "ok": True, "latency_ms": 1.5}]},
                )
            )  # fmt: skip

    def _devices(self, session: Session) -> None:
        goal = {"model": MODEL, "version": "2", "manifest": f"{2:064}"}
        payload = msgspec.json.encode({"slots": {"vision": {"champion": goal}}})
        for number, name in enumerate(self.names):
            waits = {"state": "staged", "waiting_for": f"permit: {self.text}"}
            labels = {"site": ("berlin", "oslo")[number % 2], "line": str(number % 3)}
            session.add(
                models.Device(
                    id=name, created=self.now - 86_400, online=number % 5 != 4, last_seen=self.now,
                    approved=number % 7 != 6, reported=self.now,
                    labels=labels | ({self.text[:32]: self.text} if number == 0 else {}),
                    set_aside=1 - min(number, 1), set_aside_at=self.now, set_aside_fault=self.text,
                    report=report("1", now=self.now, **(waits if number % 3 == 0 else {})),
                    certificate_expires=self.now + 20 * 86_400,
                    feeds=None if number else self._feeds(),
                )
            )  # fmt: skip
        session.flush()
        for name in self.names:
            session.add(
                models.DirectiveRow(
                    device=name, epoch=1, generation=1, content_sha256="", payload=payload,
                    envelope=b"{}", issued=self.now, expires=self.now + 86_400,
                )
            )  # fmt: skip

    def _feeds(self) -> dict[str, Any]:
        signals = [
            {"feature": f"vibration_{number}", "signal": self.text[:64], "value": 2.5,
             "unit": "mm/s", "quality": ("good", "uncertain", "bad")[number % 3],
             "reason": "" if number % 3 == 0 else "stale", "age_seconds": 0.5}
            for number in range(min(self.count, 64))
        ]  # fmt: skip
        feed = {
            "slot": "vision", "model": MODEL, "version": "1", "refusal": self.text, "left_out": 2,
            "signals": signals, "sources": {"plc": {"trouble": self.text}},
            "sinks": {"mes": {"counts": {"answers_delivered": 12}}}, "counts": {"rows_good": 7},
            "answer": {"value": 0.5, "quality": "uncertain", "basis": "last_good",
                       "label": self.text, "age_seconds": 2.0},
        }  # fmt: skip
        trails = {"press": {"vibration_0": [1.0, 2.0, 1.5]}}
        return {"received": self.now - 5.0, "feeds": {"press": feed}, "trails": trails}

    def _drift(self, session: Session) -> None:
        for number, name in enumerate(self.names):
            session.add(
                models.DriftState(
                    device=name, manifest=self.manifest, state=b"", updated=self.now,
                    view={
                        "model": MODEL, "version": "1", "findings": {},
                        "drifting": [] if number % 4 else [FEATURE],
                        "calibration": {FEATURE: "calibrated", "pressure": "calibrating"},
                    },
                )
            )  # fmt: skip
        for sequence in range(self.count):
            counted = Summary(
                model=MODEL, version="1", manifest=self.manifest, opened=stamp(0.0),
                closed=stamp(300.0), counts=Tally(inferences=200), energy_joules=2.5,
                features=binning.count(self.baseline, summaries.rows(200, seed=sequence % 7)),
            )  # fmt: skip
            start = self.now - 300.0 * (self.count - sequence)
            session.add(
                models.SummaryWindow(
                    device=self.names[0], epoch="00" * 12, sequence=sequence, model=MODEL,
                    version="1", manifest=self.manifest, start=start, seconds=300.0, n=200,
                    received=start + 300.0, payload=summary_wire.encode(counted), folded=True,
                )
            )  # fmt: skip

    def _rollouts(self, session: Session) -> None:
        plan = {
            "canary": 0.05, "strata": ["site"], "holdback": 2, "waves": [{"approve": True}],
            "budgets": [{"group_by": ["line"], "max_unavailable": 1}],
            "gate": {"metrics": ["errors"], "looks": 96},
        }  # fmt: skip
        for number in range(1, self.count + 1):
            session.add(
                models.Rollout(
                    id=number, model=MODEL, version="2", manifest=f"{2:064}", slot="vision",
                    selector="", state="running" if number % 3 else "completed", plan=plan,
                    wave=1, reason=self.text, created=self.now - 600.0 * number,
                    created_by="ben", updated=self.now,
                )
            )  # fmt: skip
        session.flush()
        for number in range(self.count):
            session.add(
                models.RolloutStep(rollout=ROLLOUT, at=self.now, state="running", wave=number % 2,
                                   why="gate", reason=self.text, devices=self.names[:1])
            )  # fmt: skip
        for number, name in enumerate(self.names):
            session.add(
                models.RolloutDevice(
                    rollout=ROLLOUT, device=name, wave=number % 2, targeted_at=self.now,
                    changed_at=self.now, state=("targeted", "committed", "failed")[number % 3],
                    detail=self.text,
                )
            )  # fmt: skip

    def _alerts_and_events(self, session: Session) -> None:
        for number, name in enumerate(self.names):
            session.add(
                models.Alert(
                    key=f"drift/{name}", device=name, kind="drift", severity="warning",
                    state="open", opened=self.now - number, updated=self.now,
                    title=f"{name}: {FEATURE}, {self.text}",
                    detail={"model": MODEL, "cause": "sensor", "features": [FEATURE]},
                )
            )  # fmt: skip
            session.add(
                alerting.Silence(selector=f"line={number}", until=self.now + 86_400,
                                 reason=self.text, by="token:ada", created=self.now)
            )  # fmt: skip
            session.add(
                models.EventRow(device=self.names[0], kind="note", received=self.now - number,
                                detail=self.text)
            )  # fmt: skip

    def _loops(self, session: Session) -> None:
        alerts = [{"id": 1, "device": name, "title": self.text} for name in self.names[:20]]
        step = {"at": self.now, "state": "wanted", "reason": self.text, "by": "hub"}
        for number in range(1, self.count + 1):
            tried = {"version": "2", "ended": self.now, "run": self.text, "run_state": "failed",
                     "run_fault": self.text, "run_url": "https://airflow.example/runs/2",
                     "approved_by": "token:ada", "rollout": ROLLOUT}  # fmt: skip
            session.add(
                LoopRow(
                    id=number, model=MODEL, state="wanted" if number == 1 else "failed",
                    opened=self.now - 60.0, since=self.now, deadline=self.now + 600.0,
                    cause=self.text, opened_by="hub", pipeline="airflow3", reason=self.text,
                    detail={"alerts": alerts, "alerts_more": 3}, history=[step] * 10,
                    **({} if number == 1 else tried),
                )
            )  # fmt: skip
            session.add(
                SamplingPolicyRow(
                    model=MODEL, version="1", manifest=self.manifest, bytes_max=1, rows=number,
                    created=self.now, created_by="token:ada", expires=self.now + 600.0,
                    reason=self.text,
                )
            )  # fmt: skip

    def _feed_settings(self, session: Session) -> None:
        for number in range(min(self.count, NAMES_MAX)):
            values = {"sources.plc.host": "{label.plc_address}", "sources.plc.note": self.text[:64]}
            session.add(
                FeedSettingRow(name=f"limits-{number}", selector=f"line={number}", feed="press",
                               settings=values, created=self.now, created_by="token:ada")
            )  # fmt: skip

    def _people(self, session: Session) -> None:
        for number in range(self.count):
            make_token(session, f"ci-{number}", "viewer", self.now)
            session.add(
                governance.Person(name=f"p{number}@example.com", role="viewer", created=self.now,
                                  created_by="token:ada")
            )  # fmt: skip
            log.append(session, actor="token:ada", action="device.relabel", now=self.now,
                       subject=self.names[number], detail={"why": self.text})  # fmt: skip


def _explained(folder: Path) -> str:
    """Put a report of what the answers hang on into a bundle; the manifest's new hash."""
    curve = tuple(CurvePoint(float(at), at / 4, at / 5, at / 3) for at in range(3))
    features = (
        ExplainedFeature("<script>alert(1)</script>", 0.25, 0.01, curve),
        ExplainedFeature("constant", -0.001, 0.002),
    )
    file = folder / explanation.FILE
    file.write_bytes(explanation.encode(Explanation(
        measure="accuracy", reference=0.9, output="p", of="worn", rows=256, repeats=5, seed=20,
        features=features,
    )))  # fmt: skip
    with file.open("rb") as opened:
        entry = cut_file(explanation.FILE, opened, lambda _piece: None)
    made = manifest.decode((folder / "manifest.json").read_bytes())
    encoded = manifest.encode(msgspec.structs.replace(made, files=(*made.files, entry)))
    (folder / "manifest.json").write_bytes(encoded)
    return sha256_hex(encoded)
