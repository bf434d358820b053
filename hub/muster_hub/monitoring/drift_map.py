"""Where features drift, over the whole fleet: what each device's monitor last said, and no windows.

One statement, however many devices. Nothing here writes.
"""

import json
from collections.abc import Mapping

import msgspec
import sqlalchemy as sa
from sqlmodel import Session, col

from muster_hub.access.scope import Scope
from muster_hub.storage import models, selecting
from muster_protocol.wire.selectors import Selector


class WatchedModel(msgspec.Struct, frozen=True, gc=False):
    """One model on one device."""

    device: str
    labels: Mapping[str, str]
    model: str
    version: str
    drifting: tuple[str, ...]
    features: Mapping[str, str]
    """Name → how far it is calibrated."""


class _View(msgspec.Struct, gc=False):
    """Of what a monitor says, what the map shows."""

    model: str = ""
    version: str = ""
    drifting: tuple[str, ...] = ()
    calibration: dict[str, str] = {}


def read(session: Session, scope: Scope, selector: Selector) -> list[WatchedModel]:
    """Models in scope on devices that a selector matches; of each the version seen last."""
    state, device = models.DriftState, models.Device
    query = (
        sa.select(
            col(state.device), sa.cast(col(device.labels), sa.Text()),
            sa.cast(col(state.view), sa.Text()),
        )
        .join(device, col(device.id) == col(state.device))
        .where(selecting.matching(selector), col(device.revoked).is_(False))
        .order_by(col(state.device), col(state.updated))
    )  # fmt: skip
    # Each line here is run for each of thousands of devices, while somebody waits for a page.
    labels_of, views = msgspec.json.Decoder(dict[str, str]), msgspec.json.Decoder(_View)
    labelled: dict[str, Mapping[str, str]] = {}
    found: dict[tuple[str, str], WatchedModel] = {}
    for name, text, said in session.connection().execute(query).all():
        labels = labelled.get(text)
        if labels is None:
            labels = labelled[text] = labels_of.decode(text)
        try:
            view = views.decode(said)
        except msgspec.DecodeError:
            view = msgspec.convert(json.loads(said), _View)  # An older hub wrote NaN as JSON.
        model = view.model
        if model and (not scope.models or scope.has_model(model)):
            found[name, model] = WatchedModel(
                name, labels, model, view.version, view.drifting, view.calibration
            )
    return list(found.values())
