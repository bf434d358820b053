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


class _View(msgspec.Struct, frozen=True, gc=False):
    """Of what a monitor says, what the map shows."""

    model: str = ""
    version: str = ""
    drifting: tuple[str, ...] = ()
    calibration: dict[str, str] = {}


VIEWS_MAX = 50_000
"""Kept from page to page, some hundred bytes each: a monitor says something new once a window."""
_kept: dict[int, _View] = {}
"""By the text's hash, of 64 bits and with a key of this process."""
_views = msgspec.json.Decoder(_View)


def _view(text: str) -> _View:
    try:
        return _views.decode(text)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(text), _View)  # An older hub wrote NaN as JSON.


def read(session: Session, scope: Scope, selector: Selector) -> list[WatchedModel]:
    """Models in scope on devices that a selector matches; of each the version seen last."""
    state, device = models.DriftState, models.Device
    query = (
        sa.select(
            col(state.device), sa.cast(col(device.labels), sa.Text()),
            sa.cast(col(state.view), sa.Text()), col(state.updated),
        )
        .join(device, col(device.id) == col(state.device))
        .where(selecting.matching(selector), col(device.revoked).is_(False))
        .order_by(col(state.device))
    )  # fmt: skip
    # Each line here is run for each of thousands of devices, while somebody waits for a page.
    labels_of = msgspec.json.Decoder(dict[str, str])
    if len(_kept) > VIEWS_MAX:
        _kept.clear()
    labelled: dict[str, Mapping[str, str]] = {}
    found: dict[tuple[str, str], WatchedModel] = {}
    newest: dict[tuple[str, str], float] = {}
    for name, text, said, updated in session.connection().execute(query).all():
        labels = labelled.get(text)
        if labels is None:
            labels = labelled[text] = labels_of.decode(text)
        key = hash(said)
        view = _kept.get(key)
        if view is None:
            view = _kept[key] = _view(said)
        model, place = view.model, (name, view.model)
        if not model or (scope.models and not scope.has_model(model)):
            continue
        if newest.get(place, updated) <= updated:
            newest[place] = updated
            found[place] = WatchedModel(
                name, labels, model, view.version, view.drifting, view.calibration
            )
    return list(found.values())
