"""Feed committed summaries to each device's drift monitor; its state is kept beside what it saw."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from muster_hub.audit import log
from muster_hub.errors import NotFound
from muster_hub.fleet import set_aside
from muster_hub.registry.published import Bundles
from muster_hub.storage import models
from muster_hub.storage.care import Care
from muster_protocol.signals import monitors, summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.monitors import Monitor
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.wire import directive as wire
from muster_protocol.wire.errors import MusterError

ROWS_MAX = 500

_log = logging.getLogger(__name__)
_UNSEEN = (
    select(models.SummaryWindow)
    .where(col(models.SummaryWindow.folded).is_(False), col(models.SummaryWindow.fault) == "")
    .order_by(col(models.SummaryWindow.id))
    .limit(ROWS_MAX)
)
_KNOWN = select(models.Version.manifest_sha256, models.Version.model, models.Version.version).where(
    col(models.Version.manifest_sha256).in_(bindparam("manifests", expanding=True))
)


def step(session: Session, bundles: Bundles, now: float, care: Care | None = None) -> int:
    """Take in windows not yet seen, oldest first; how many. With care one by one: a window that
    can't be taken in is set aside.
    """
    rows = session.exec(_UNSEEN).all()
    grouped: dict[tuple[str, str], list[models.SummaryWindow]] = {}
    for row in rows:
        grouped.setdefault((row.device, row.manifest), []).append(row)
    known = _known(session, {manifest for _, manifest in grouped})

    def take(group: list[models.SummaryWindow]) -> None:
        device, manifest = group[0].device, group[0].manifest
        fitting = [row for row in group if _is_of(row, known)]
        try:
            if fitting:
                _feed(session, bundles, device, manifest, fitting, now)
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
    device: str,
    manifest: str,
    windows: list[models.SummaryWindow],
    now: float,
) -> None:
    baseline = bundles.baseline(manifest)
    if baseline is None:
        return
    kept = session.get(models.DriftState, (device, manifest))
    rule = Rule(window_seconds=_window_seconds(session, device))
    monitor = (
        monitors.begin(baseline, rule)
        if kept is None
        else monitors.resume(baseline, rule, kept.state)
    )
    findings: list[DriftFinding] = []
    for row in windows:
        try:
            summary = summary_wire.decode(row.payload, baseline)
        except MusterError as error:  # this one alone: the others of the device are taken in
            row.fault = set_aside.clipped(str(error))
            continue
        if not isinstance(summary, summary_wire.Unknown):
            findings += monitor.feed(summary)
    view = _view(monitor, findings, windows[-1], kept.view if kept is not None else {})
    state = kept or models.DriftState(device=device, manifest=manifest, state=b"", updated=now)
    state.state, state.view, state.updated = monitor.encode(), view, now
    session.add(state)


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
    rule = Rule(window_seconds=_window_seconds(session, device))
    monitor = monitors.resume(baseline, rule, state.state)
    forgotten = sorted(monitor.drifting())
    monitor.rebaseline()
    view = state.view | {"drifting": [], "findings": {}, "calibration": monitor.status()}
    state.state, state.view, state.updated = monitor.encode(), view, now
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


def _window_seconds(session: Session, device: str) -> float:
    """How long the device's windows are asked to be; the alert budget is counted in them."""
    row = session.get(models.DirectiveRow, device)
    return Rule.window_seconds if row is None else wire.decode(row.payload).window_seconds


def _view(
    monitor: Monitor,
    findings: Iterable[DriftFinding],
    window: models.SummaryWindow,
    before: dict[str, Any],
) -> dict[str, Any]:
    """What alerts and the API show: features drifting now, and the latest finding of each."""
    drifting = monitor.drifting()
    found = {
        name: finding for name, finding in before.get("findings", {}).items() if name in drifting
    }
    for finding in findings:
        if finding.feature in drifting:
            found[finding.feature] = {
                "statistic": finding.statistic,
                "value": float(finding.value),
                "limit": float(finding.limit),
                "effect": float(finding.effect),
                "n": int(finding.n),
                "direction": finding.direction,
                "status": finding.status,
                "since": found.get(finding.feature, {}).get("since", window.start),
            }
    return {
        "model": window.model,
        "version": window.version,
        "drifting": sorted(drifting),
        "calibration": monitor.status(),
        "findings": found,
        "latest": window.start,
    }


_REBASELINED = select(
    models.DriftState.device, models.DriftState.manifest, models.DriftState.rebaselines
).where(col(models.DriftState.rebaselines) > 0)


def rebaselines(session: Session) -> dict[tuple[str, str], int]:
    """(device, manifest) → how often what is seen there was called normal, where it ever was."""
    rows = session.exec(_REBASELINED)
    return {(device, manifest): times for device, manifest, times in rows}
