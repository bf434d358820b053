"""Where features drift, over the whole fleet: what each device's monitor last said, and no windows.

One statement, however many devices. Nothing here writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from muster_hub.access.scope import Scope
from muster_hub.storage import models, selecting
from muster_protocol.wire.selectors import Selector


@dataclass(frozen=True)
class WatchedModel:
    """One model on one device."""

    device: str
    labels: Mapping[str, str]
    model: str
    version: str
    drifting: frozenset[str]
    features: Mapping[str, str]
    """Name → how far it is calibrated."""
    findings: Mapping[str, Any]


def read(session: Session, scope: Scope, selector: Selector) -> list[WatchedModel]:
    """Models in scope on devices that a selector matches; of each the version seen last."""
    state, device = models.DriftState, models.Device
    rows = session.exec(
        select(state.device, device.labels, state.view)
        .join(device, col(device.id) == col(state.device))
        .where(selecting.matching(selector), col(device.revoked).is_(False))
        .order_by(col(state.device), col(state.updated))
    )
    found: dict[tuple[str, str], WatchedModel] = {}
    for name, labels, view in rows:
        model = str(view.get("model", ""))
        if not model or not scope.has_model(model):
            continue
        found[name, model] = WatchedModel(
            device=name,
            labels=labels,
            model=model,
            version=str(view.get("version", "")),
            drifting=frozenset(view.get("drifting", ())),
            features=view.get("calibration", {}),
            findings=view.get("findings", {}),
        )
    return list(found.values())
