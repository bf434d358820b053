"""The registry: models, their versions with where they come from, and two versions side by side."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlmodel import col, select

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.routes import models as api
from muster_hub.api.routes import registry as papers
from muster_hub.console.rendering import may_do, redirect, render
from muster_hub.registry import cards, reading
from muster_hub.rollouts.commands import RELEASED
from muster_hub.storage.models import Model
from muster_protocol.wire import agent_release

router = APIRouter(route_class=OnceRoute)
MODELS_MAX = 500
VERSIONS_SHOWN = 100
Name = Annotated[str, Query(max_length=64)]


@router.get("/models")
def models(request: Request, hub: HubDep, leave: Annotated[Leave, asks("model.list")]) -> Response:
    """Models by name, each with its newest version."""
    scope = leave.scope
    with hub.store.read() as session:
        rows = session.exec(
            select(Model).where(Model.name != agent_release.NAME).order_by(col(Model.name))
        ).all()
        found = [row for row in rows if scope.has_model(row.name)][:MODELS_MAX]
        versions = reading.versions(session, [row.name for row in found])
    return render(
        request, "models.html", models=[(row, versions.get(row.name, [])) for row in found]
    )


@router.get("/models/{model}")
def model(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("model.read")],
    model: str,
    left: Name = "",
    right: Name = "",
) -> Response:
    """A model's versions, and two of them compared."""
    found = api.model(hub, leave, model)
    known = [item.version for item in found.versions]
    sides = [api.version(hub, leave, model, name).model_dump() for name in (left, right)
             if name in known]  # fmt: skip
    return render(
        request,
        "model.html",
        model=found.model_dump(),
        shown=VERSIONS_SHOWN,
        left=left,
        right=right,
        known=known,
        rows=compared(*sides) if len(sides) == 2 else [],
        may_start=may_do(leave.actor, "rollout.start"),
        may_approve=may_do(leave.actor, "version.approve"),
        released=RELEASED,
    )


@router.get("/models/{model}/{version}")
def version(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("model.read")],
    model: str,
    version: str,
) -> Response:
    """One version: where it comes from, what its check showed, what its manifest says."""
    found = api.version(hub, leave, model, version).model_dump()
    explanation = papers.card(hub, leave, model, version)["explanation"]
    return render(
        request,
        "version.html",
        version=found,
        facts=facts(found),
        explanation=explanation,
        explained=cards.explained(explanation) if explanation else "",
        largest=max((each["importance"] for each in explanation["features"]), default=0.0)
        if explanation
        else 0.0,
        may_start=may_do(leave.actor, "rollout.start") and found["status"] in RELEASED,
        may_approve=may_do(leave.actor, "version.approve")
        and found["status"] == "awaiting_approval",
    )


@router.post("/models/{model}/{version}/approve")
def approve(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("version.approve")],
    model: str,
    version: str,
) -> Response:
    """Agree to what somebody else pushed."""
    api.approve(hub, leave, model, version)
    return redirect(request, f"models/{model}/{version}")


def facts(version: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say of a version, in lines that two versions can be compared by."""
    manifest, lineage = version["manifest"], version["lineage"]
    found = [
        ("status", version["status"].replace("_", " ")),
        ("pushed by", version["created_by"]),
        ("size, bytes", f"{version['size_bytes']:,}"),
        ("source", lineage.get("source", "")),
        ("commit", lineage.get("commit", "")),
        ("data", lineage.get("data", "")),
        ("trained at", lineage.get("trained_at", "")),
        *((f"metric {name}", f"{value:.6g}") for name, value in
          sorted((lineage.get("metrics") or {}).items())),
        *((f"note {name}", str(value)) for name, value in sorted(_notes(lineage).items())),
    ]  # fmt: skip
    for build in version["check"]["builds"]:
        runtime = build.get("runtime", "?")
        found += [
            (f"{runtime} {name.replace('_', ' ')}", _short(value))
            for name, value in sorted(build.items())
            if name != "runtime" and value is not None
        ]
    found += [(f"input {item['name']}", _tensor(item)) for item in manifest["inputs"]]
    found += [(f"output {item['name']}", _tensor(item)) for item in manifest["outputs"]]
    golden, fallbacks = manifest["golden"], manifest.get("fallbacks") or ()
    found += [
        ("golden tolerance", f"{golden['rtol']:g} of the value + {golden['atol']:g}"),
        ("baseline", manifest.get("baseline") or "none"),
        ("fallbacks", ", ".join(item["name"] for item in fallbacks) or "none"),
        ("manifest", version["manifest_sha256"]),
    ]
    return [(name, value) for name, value in found if value != ""]


def compared(left: dict[str, Any], right: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Facts of two versions side by side, in the order of the first."""
    one_side, other_side = dict(facts(left)), dict(facts(right))
    names = [*one_side, *(name for name in other_side if name not in one_side)]
    return [(name, one_side.get(name, ""), other_side.get(name, "")) for name in names]


def _notes(lineage: dict[str, Any]) -> dict[str, Any]:
    notes = lineage.get("notes")
    return notes if isinstance(notes, dict) else {}


def _tensor(item: dict[str, Any]) -> str:
    shape = item.get("shape", ())
    return f"{item.get('dtype', item.get('datatype', ''))} {list(shape)}"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:200]
