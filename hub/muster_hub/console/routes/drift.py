"""Drift: sites by features, then devices by features, then one feature's windows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from muster_hub.access.leave import Leave
from muster_hub.alerts import reading as alerts_reading
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.routes import devices as api
from muster_hub.api.schemas.drift import Rebaseline
from muster_hub.console.rendering import may_do, redirect, render
from muster_hub.console.routes.fleet import read_search
from muster_hub.errors import NotFound
from muster_hub.monitoring import drift_map, drift_reading
from muster_hub.monitoring.drift_map import WatchedModel
from muster_hub.registry.published import read_baseline
from muster_protocol.wire import selectors

router = APIRouter(route_class=OnceRoute)
COLUMNS_MAX = 24
ROWS_MAX = 100
PEERS_SHOWN = 12
NO_SITE = "(none)"
Text = Annotated[str, Query(max_length=1024)]
Name = Annotated[str, Query(max_length=64)]


@router.get("/drift")
def drift(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("drift.list")],
    q: Text = "",
    model: Name = "",
    by: Name = "site",
    site: Name = "",
) -> Response:
    """Where which features drift: by the values of a label, or by device of one value."""
    chosen, part, fault = read_search(q)
    with hub.store.read() as session:
        narrowed = selectors.parse(leave.narrow(str(chosen)))
        found = drift_map.read(session, leave.actor.scope, narrowed)
    found = [item for item in found if part in item.device]
    counts = Counter(item.model for item in found)
    names = [name for name, _ in counts.most_common()]
    model = model if model in counts else _most_drifting(found) or (names[0] if names else "")
    found = [item for item in found if item.model == model]
    if site:
        found = [item for item in found if item.labels.get(by, NO_SITE) == site]
    watched = _watched(found)
    features = _columns(found, watched)
    cells = _devices(found, features) if site else _sites(found, features, by)
    return render(
        request,
        "drift.html",
        q=q,
        fault=fault,
        model=model,
        models=names,
        by=by,
        site=site,
        features=features,
        cells=cells,
        more=len(watched) - len(features),
        rows_more=(len(found) if site else len(cells)) - ROWS_MAX,
        rows_max=ROWS_MAX,
        watched=len(found),
        drifting=sum(1 for item in found if item.drifting),
    )


@router.get("/drift/{model}/{device}/{feature:path}")
def feature(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("history.read")],
    model: str,
    device: str,
    feature: str,
) -> Response:
    """One feature on one device: its windows against training, what was found, and its peers."""
    scope = leave.actor.scope
    with hub.store.read() as session:
        leave.device_and_model(session, device, model)
        views = drift_reading.device_drift(session, hub.blobs.read, device, model=model)
        alerts = [
            item
            for item in alerts_reading.of_device(session, scope, device)
            if item["kind"] == "drift" and item["detail"].get("model") == model
        ]
        near = drift_map.read(session, scope, scope.selector)
    view = next(iter(views), None)
    shown = (
        next((item for item in view["features"] if item["name"] == feature), None) if view else None
    )
    if view is None or shown is None:
        raise NotFound(f"no windows of {feature!r} on {device!r} have come for {model!r}")
    baseline = read_baseline(view["manifest"], hub.blobs.read)
    place = [item.name for item in baseline.features].index(feature) if baseline else 0
    mean, spread = (baseline.bins[place].mean, baseline.bins[place].std) if baseline else (0.0, 1.0)
    peers = [item for item in near if item.model == model and item.device != device]
    return render(
        request,
        "feature.html",
        device=device,
        model=model,
        feature=shown,
        version=view["version"],
        mean=mean,
        spread=spread,
        points=[(point["start"], mean + point["shift"] * spread) for point in shown["trend"]
                if point["shift"] is not None],
        shares=_shares(shown),
        alerts=alerts,
        peers=sorted(peers, key=lambda item: (feature not in item.drifting, item.device)),
        peers_shown=PEERS_SHOWN,
        along=sum(1 for item in peers if feature in item.drifting),
        may_rebaseline=may_do(leave.actor, "device.rebaseline"),
    )  # fmt: skip


@router.post("/drift/{model}/{device}/rebaseline")
def rebaseline(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.rebaseline")],
    model: str,
    device: str,
) -> Response:
    """Take what a model sees on a device now as normal there."""
    api.rebaseline(hub, leave, device, Rebaseline(model=model))
    return redirect(request, f"devices/{device}")


def _most_drifting(found: Iterable[WatchedModel]) -> str:
    counted = Counter(item.model for item in found if item.drifting)
    return counted.most_common(1)[0][0] if counted else ""


def _watched(found: Iterable[WatchedModel]) -> Counter[str]:
    """Feature → on how many devices it is watched, those where it drifts among them."""
    found = list(found)
    counted = Counter(chain.from_iterable(item.features for item in found))
    for item in found:
        if item.drifting:
            counted.update(name for name in item.drifting if name not in item.features)
    return counted


def _drifting(found: Iterable[WatchedModel]) -> Counter[str]:
    return Counter(chain.from_iterable(item.drifting for item in found))


def _columns(found: Sequence[WatchedModel], watched: Iterable[str]) -> list[str]:
    """Features, those that drift on most devices first."""
    counted = _drifting(found)
    return sorted(watched, key=lambda name: (-counted[name], name))[:COLUMNS_MAX]


def _sites(
    found: Sequence[WatchedModel], features: Sequence[str], by: str
) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """Value of a label → of each feature (name, devices on which it drifts, devices watched)."""
    groups: dict[str, list[WatchedModel]] = {}
    for item in found:
        groups.setdefault(item.labels.get(by, NO_SITE), []).append(item)
    rows = []
    for value, items in groups.items():
        drifting, watched = _drifting(items), _watched(items)
        rows.append((value, [(name, drifting[name], watched[name]) for name in features]))
    return sorted(rows, key=lambda row: (-sum(count for _, count, _ in row[1]), row[0]))


def _devices(
    found: Sequence[WatchedModel], features: Sequence[str]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Device → of each feature (name, how it stands); as many as a page shows."""
    ordered = sorted(found, key=lambda item: (-len(item.drifting), item.device))
    return [
        (
            item.device,
            [
                (name, "drifting" if name in item.drifting else item.features.get(name, ""))
                for name in features
            ],
        )
        for item in ordered[:ROWS_MAX]
    ]


def _shares(shown: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Of each bin the share in training and now."""
    counts = [float(count) for count in shown["now"]]
    total = sum(counts) or 1.0
    return list(zip(shown["p0"], [count / total for count in counts], strict=False))
