"""Values of a rollout's custom metrics, posted by the operator's own systems."""

from typing import Annotated

from fastapi import APIRouter
from sqlmodel import Session, col, select

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Number
from muster_hub.api.problems import answers
from muster_hub.api.schemas.metrics import MetricsAsk, MetricsView, ValueAsk
from muster_hub.audit import log
from muster_hub.errors import Conflict, Invalid, NotFound
from muster_hub.rollouts import load
from muster_hub.rollouts.gates import readings
from muster_hub.rollouts.plan import Plan
from muster_hub.storage.models import Device, MetricValue, Rollout

VALUES_PER_ROLLOUT_MAX = 200_000
AHEAD_SECONDS = 300.0
"""How far the poster's clock may be ahead of the hub's."""
router = APIRouter(tags=["rollouts"], route_class=OnceRoute)


@router.post("/rollouts/{rollout}/metrics", status_code=201, responses=answers(401, 403, 404, 409))
def post_metrics(
    hub: HubDep, leave: Annotated[Leave, asks("rollout.metrics")], rollout: Number, ask: MetricsAsk
) -> MetricsView:
    """Tell values of a custom metric that the rollout's plan names, from before it began, too.

    A value of the same device, metric and time replaces the one before: what is repeated counts
    once. The gate takes values in at its next look.
    """
    now = hub.clock()
    with hub.store.write() as session:
        row = session.get(Rollout, rollout)
        if row is None:
            raise NotFound(f"there is no rollout {rollout}")
        leave.model(row.model)
        if row.state not in ("running", "paused"):
            raise Conflict(f"rollout {rollout} is {row.state}: its gate looks no more")
        _check(session, leave, row, load.plan(row), ask, now)
        taken = sum(_keep(session, rollout, ask.metric, value, now) for value in ask.values)
        session.flush()
        kept = readings.values_of(session, rollout)
        if kept > VALUES_PER_ROLLOUT_MAX:
            raise Conflict(
                f"rollout {rollout} has {VALUES_PER_ROLLOUT_MAX} values at most: post fewer, "
                "such as one for each device and hour"
            )
        log.append(
            session,
            actor=leave.actor.label,
            action="rollout.metrics",
            subject=f"rollout/{rollout}",
            now=now,
            metric=ask.metric,
            taken=taken,
        )
    return MetricsView(metric=ask.metric, taken=taken, kept=kept)


def _check(
    session: Session, leave: Leave, row: Rollout, plan: Plan, ask: MetricsAsk, now: float
) -> None:
    """Raise Invalid for what the plan or the fleet doesn't know, and Refused beyond the scope."""
    custom = plan.gate.custom if plan.gate is not None else ()
    names = [item.name for item in custom]
    if ask.metric not in names:
        known = ", ".join(repr(name) for name in names) or "none"
        raise Invalid(f"the plan of rollout {row.id} has no metric {ask.metric!r}, but {known}")
    wanted = sorted({value.device for value in ask.values})
    rows = session.exec(select(Device.id, Device.labels).where(col(Device.id).in_(wanted)))
    labels = dict(rows.all())
    for name in wanted:
        if name not in labels:
            raise Invalid(f"there is no device {name!r}: nothing was taken")
        leave.labels(name, labels[name], whole=False)
    assert plan.gate is not None
    earliest = row.created - plan.gate.past_seconds
    for value in ask.values:
        if value.at is not None and not earliest <= value.at <= now + AHEAD_SECONDS:
            raise Invalid(
                f"{value.device}: {value.at:.0f} is outside of what the gate looks at: "
                f"{earliest:.0f} to now ({now:.0f})"
            )


def _keep(session: Session, rollout: int, metric: str, value_ask: ValueAsk, now: float) -> bool:
    """Keep a value; False when it was there already."""
    at = now if value_ask.at is None else value_ask.at
    row = session.get(MetricValue, (rollout, metric, value_ask.device, at))
    if row is None:
        row = MetricValue(
            rollout=rollout, metric=metric, device=value_ask.device, at=at, value=value_ask.value
        )
    elif row.value == value_ask.value:
        return False
    row.value = value_ask.value
    session.add(row)
    return True
