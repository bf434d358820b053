"""Feed committed summaries to each device's drift monitor; its state is kept beside what it saw."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET
from sqlalchemy import bindparam, text
from sqlmodel import Session, col, select

from muster_hub.audit import log
from muster_hub.errors import NotFound
from muster_hub.fleet import set_aside
from muster_hub.monitoring import accuracy, hints, inputs
from muster_hub.registry.published import Bundles
from muster_hub.storage import models
from muster_hub.storage.care import Care
from muster_protocol.signals import monitors, summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.monitors import Monitor
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.wire import directive as wire
from muster_protocol.wire.errors import MusterError

ROWS_MAX = 50
"""In one transaction, which others wait for: each takes some milliseconds to judge."""
STEP_ROWS_MAX = 500
"""In one step of the engine, however many wait."""

_log = logging.getLogger(__name__)
_UNSEEN = (
    select(models.SummaryWindow)
    .where(col(models.SummaryWindow.folded).is_(False), col(models.SummaryWindow.fault) == "")
    .order_by(col(models.SummaryWindow.id))
    .limit(ROWS_MAX)
)
_ANY_UNSEEN = (
    select(models.SummaryWindow.id)
    .where(col(models.SummaryWindow.folded).is_(False), col(models.SummaryWindow.fault) == "")
    .limit(1)
)
_KNOWN = select(models.Version.manifest_sha256, models.Version.model, models.Version.version).where(
    col(models.Version.manifest_sha256).in_(bindparam("manifests", expanding=True))
)

_STATES = select(models.DriftState).where(
    col(models.DriftState.device).in_(bindparam("devices", expanding=True)),
    col(models.DriftState.manifest).in_(bindparam("manifests", expanding=True)),
)
_DIRECTIVES = select(models.DirectiveRow.device, models.DirectiveRow.payload).where(
    col(models.DirectiveRow.device).in_(bindparam("devices", expanding=True))
)


def is_due(session: Session) -> bool:
    """Whether some window is to be taken in."""
    return session.connection().execute(_ANY_UNSEEN).first() is not None


def step(session: Session, bundles: Bundles, now: float, care: Care | None = None) -> int:
    """Take in windows not yet seen, oldest first; how many. With care one by one: a window that
    can't be taken in is set aside.
    """
    rows = session.exec(_UNSEEN).all()
    grouped: dict[tuple[str, str], list[models.SummaryWindow]] = {}
    for row in rows:
        grouped.setdefault((row.device, row.manifest), []).append(row)
    known = _known(session, {manifest for _, manifest in grouped})
    before = _Before.of(session, grouped)

    def take(group: list[models.SummaryWindow]) -> None:
        manifest, device = group[0].manifest, group[0].device
        fitting = [row for row in group if _is_of(row, known)]
        try:
            if fitting:
                _feed(session, bundles, before, fitting, now)
        except MusterError as error:
            _log.warning("no drift for %s on %s: %s", manifest[:12], device, error)
            for row in fitting:
                row.fault = set_aside.clipped(str(error))
        for row in group:
            row.folded = True
            session.add(row)

    care = care or Care()
    care.each(
        session, [[row] for row in rows] if care.careful else grouped.values(), take,
        lambda group: set_aside.name_of(group[0]),
        lambda group, why: set_aside.windows(session, group, why, now),
    )  # fmt: skip
    return len(rows)


@dataclass(frozen=True)
class _Before:
    """What is known of the devices whose windows are taken in, read at once for all of them."""

    states: dict[tuple[str, str], models.DriftState]
    directives: dict[str, bytes]
    made: set[tuple[str, str]] = field(default_factory=set)
    """Whose state was begun in this step. With care that may have been undone since."""

    @classmethod
    def of(cls, session: Session, keys: Collection[tuple[str, str]]) -> "_Before":
        if not keys:
            return cls({}, {})
        devices = sorted({device for device, _ in keys})
        manifests = sorted({manifest for _, manifest in keys})
        states = session.exec(_STATES, params={"devices": devices, "manifests": manifests})
        directives = session.exec(_DIRECTIVES, params={"devices": devices})
        return cls({(row.device, row.manifest): row for row in states}, dict(directives.all()))


def _known(session: Session, manifests: set[str]) -> dict[str, tuple[str, str]]:
    """Manifest → model and version, of those of a version."""
    if not manifests:
        return {}
    rows = session.exec(_KNOWN, params={"manifests": list(manifests)})
    return {manifest: (model, version) for manifest, model, version in rows}


def _is_of(row: models.SummaryWindow, known: Mapping[str, tuple[str, str]]) -> bool:
    """Whether a window is of a version; one that isn't says so."""
    if row.manifest not in known:
        row.fault = "the summary is of a version this hub does not know"
    elif known[row.manifest] != (row.model, row.version):
        model, version = known[row.manifest]
        row.fault = f"the summary's manifest is that of {model} {version}"
    return not row.fault


def _feed(
    session: Session,
    bundles: Bundles,
    before: _Before,
    windows: list[models.SummaryWindow],
    now: float,
) -> None:
    """Take in windows of one device and manifest."""
    device, manifest = windows[0].device, windows[0].manifest
    baseline = bundles.baseline(manifest)
    key = device, manifest
    kept = session.get(models.DriftState, key) if key in before.made else before.states.get(key)
    view = {} if kept is None else kept.view
    monitor = None
    if baseline is not None:
        rule = _rule(before.directives.get(device), manifest)
        monitor = (
            monitors.begin(baseline, rule)
            if kept is None or not kept.state
            else monitors.resume(baseline, rule, kept.state)
        )
    findings: list[tuple[float, DriftFinding]] = []
    refused, labels = dict(view.get("inputs", {})), dict(view.get("labels", {}))
    confidence = dict(view.get("confidence", {}))
    for row in windows:
        try:
            summary = summary_wire.decode(row.payload, baseline)
        except MusterError as error:  # this one alone: the others of the device are taken in
            row.fault = set_aside.clipped(str(error))
            continue
        if isinstance(summary, summary_wire.Unknown):
            continue
        counts = summary.counts
        refused = inputs.follow(refused, counts, row.start)
        labels = accuracy.follow(labels, counts.labels_right, counts.labels_wrong, row.start)
        if monitor is not None:
            findings += [(row.start, finding) for finding in monitor.feed(summary)]
            confidence = hints.follow(confidence, summary.confidence, monitor.drifting())
    for _, finding in findings:
        if finding.direction == "settled":
            _settled(session, device, windows[-1], finding, now)
    view = _view(monitor, findings, windows[-1], view)
    view |= {"inputs": refused, "labels": labels, "confidence": confidence}
    state = kept or models.DriftState(device=device, manifest=manifest, state=b"", updated=now)
    state.state = b"" if monitor is None else monitor.encode()
    state.view, state.updated, state.alarming = view, now, _is_alarming(view)
    if kept is None:
        before.made.add(key)
    session.add(state)


def _is_alarming(view: Mapping[str, Any]) -> bool:
    """Whether some alert is about what is seen."""
    rises = (view.get(name, {}).get("since") is not None for name in ("inputs", "labels"))
    return bool(view.get("drifting")) or any(rises)


def _settled(
    session: Session, device: str, window: models.SummaryWindow, finding: DriftFinding, now: float
) -> None:
    detail = (
        f"{window.model} {window.version}: {finding.feature} has stayed as it became, and counts "
        "as normal on this device from now on"
    )
    session.add(models.EventRow(kind="drift_settled", device=device, received=now, detail=detail))


def rebaseline(
    session: Session,
    baseline_of: Callable[[str], Baseline | None],
    *,
    device: str,
    model: str,
    by: str,
    now: float,
) -> dict[str, Any]:
    """Take a device's last windows as its normal: an operator's decision, audited.

    What drifted is forgotten, so that its alert resolves, and the device is calibrated anew: here,
    and on the device as soon as it hears its next directive. Raises
    NotFound when the hub follows no version of the model there.
    """
    states = session.exec(
        select(models.DriftState)
        .where(models.DriftState.device == device)
        .order_by(col(models.DriftState.updated).desc())
    )
    state = next((row for row in states if row.view.get("model") == model), None)
    baseline = None if state is None else baseline_of(state.manifest)
    if state is None or baseline is None:
        raise NotFound(f"the hub has no windows of {model!r} on {device!r} to take as its normal")
    row = session.get(models.DirectiveRow, device)
    rule = _rule(None if row is None else row.payload, state.manifest)
    monitor = monitors.resume(baseline, rule, state.state)
    forgotten = sorted(monitor.drifting())
    monitor.rebaseline()
    view = state.view | {"drifting": [], "findings": {}, "calibration": monitor.status()}
    view |= {"confidence": {}}
    state.state, state.view, state.updated = monitor.encode(), view, now
    state.alarming = _is_alarming(view)
    state.rebaselines += 1
    session.add(state)
    subject = {
        "model": model,
        "version": view.get("version", ""),
        "manifest": state.manifest,
        "forgotten": forgotten,
    }
    log.append(session, actor=by, action="device.rebaseline", subject=device, now=now, **subject)
    return {"device": device} | subject


def _rule(directive: bytes | None, manifest: str) -> Rule:
    """What the device's directive says of windows and drift: both sides judge by the same."""
    if directive is None:
        return Rule()
    wanted = wire.decode(directive)
    slots = [slot for slot in wanted.slots.values() if slot.champion.manifest == manifest]
    return Rule.of(wanted.window_seconds, slots[0].drift if slots else UNSET)


def _view(
    monitor: Monitor | None,
    findings: Iterable[tuple[float, DriftFinding]],
    window: models.SummaryWindow,
    before: dict[str, Any],
) -> dict[str, Any]:
    """What alerts and the API show: features drifting now, and the latest finding of each.

    ``findings`` come with the start of the window that each was found in.
    """
    drifting = frozenset[str]() if monitor is None else monitor.drifting()
    found = {name: known for name, known in before.get("findings", {}).items() if name in drifting}
    for start, finding in findings:
        if finding.feature in drifting and finding.state != "cleared":
            known = found.get(finding.feature, {})
            since = start if finding.state == "opened" else known.get("since", start)
            found[finding.feature] = {
                "statistic": finding.statistic,
                "value": float(finding.value),
                "limit": float(finding.limit),
                "effect": float(finding.effect),
                "n": int(finding.n),
                "direction": finding.direction,
                "status": finding.status,
                "fault": finding.fault,
                "detail": finding.detail,
                "before": finding.before,
                "now": finding.now,
                "since": since,
            }
    return {
        "model": window.model,
        "version": window.version,
        "drifting": sorted(drifting),
        "calibration": {} if monitor is None else monitor.status(),
        "note": "" if monitor is None else monitors.note(monitor.baseline),
        "findings": found,
        "latest": window.start,
    }


_REBASELINED = select(
    models.DriftState.device, models.DriftState.manifest, models.DriftState.rebaselines
).where(text("rebaselines > 0"))  # as the index says it


def rebaselines(session: Session) -> dict[tuple[str, str], int]:
    """(device, manifest) → how often what is seen there was called normal, where it ever was."""
    rows = session.exec(_REBASELINED)
    return {(device, manifest): times for device, manifest, times in rows}
