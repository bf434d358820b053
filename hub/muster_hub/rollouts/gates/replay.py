"""A gate tried on the fleet's own history: canaries that nothing was done to must not stop it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlmodel import Session, col, select

from muster_hub.errors import Invalid
from muster_hub.rollouts.gates import placebo
from muster_hub.rollouts.gates.placebo import Past, Placebo
from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.storage.models import Device, SummaryWindow
from muster_protocol.wire import selectors

DEVICES_MAX = 2_000
WINDOWS_MAX = 2_000


@dataclass(frozen=True)
class History:
    """Windows of a model, devices × windows in order of time."""

    errors: Past
    missing: Past


def read(
    session: Session, *, model: str, selector: str, since: float, until: float,
    window_seconds: float, strata: tuple[str, ...] = (),
) -> History:  # fmt: skip
    """What devices that match sent home of ``model`` in [since, until).

    Raises Invalid when there is nothing, or more windows than can be looked through.
    """
    count = int((until - since) // window_seconds)
    if not 2 <= count <= WINDOWS_MAX:
        raise Invalid(f"{count} windows of {window_seconds:.0f} s: look at 2 to {WINDOWS_MAX}")
    chosen = selectors.parse(selector)
    listed = session.exec(select(Device.id, Device.labels).order_by(col(Device.id)))
    labels = {
        device: device_labels for device, device_labels in listed if chosen.matches(device_labels)
    }
    window = SummaryWindow
    found = session.exec(
        select(window.device, window.start, window.n, window.errors, window.seconds).where(  # type: ignore[call-overload]  # SQLModel types up to four columns
            col(window.model) == model,
            col(window.start) >= since,
            col(window.start) < since + count * window_seconds,
            col(window.fault) == "",
        )
    ).all()
    names = sorted({device for device, *_ in found} & labels.keys())[:DEVICES_MAX]
    if not names:
        raise Invalid(f"no device has sent windows of {model} in that time")
    place = {name: index for index, name in enumerate(names)}
    events, exposure, received = (np.zeros((len(names), count)) for _ in range(3))
    for device, start, inferences, errors, seconds in found:
        row = place.get(device)
        if row is not None:
            at = int((start - since) // window_seconds)
            events[row, at] += errors
            exposure[row, at] += inferences
            received[row, at] += seconds / window_seconds
    groups = sorted({_group(labels[name], strata) for name in names})
    stratum = np.array([groups.index(_group(labels[name], strata)) for name in names], np.intp)
    missing = 1.0 - np.minimum(received, 1.0)
    return History(Past(events, exposure, stratum), Past(missing, np.ones_like(missing), stratum))


def replay(
    history: History, plan: GatePlan, *, canaries: int, draws: int, seed: int
) -> list[Placebo]:
    """How often each rate of the plan would have stopped ``canaries`` devices for nothing.

    Raises Invalid when the history has too few devices.
    """
    gate = plan.gate()
    replayable = {"errors": history.errors, "missing windows": history.missing}
    metrics = {metric.name: metric for metric in gate.metrics if metric.name in replayable}
    if not metrics:
        raise Invalid(
            f"the gate has none of {' and '.join(replayable)}: only those can be replayed"
        )
    try:
        return [
            placebo.replay(
                gate, metric, replayable[name], canaries=canaries, draws=draws, seed=seed
            )
            for name, metric in metrics.items()
        ]
    except ValueError as error:
        raise Invalid(str(error)) from None


def _group(labels: Mapping[str, str], strata: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(labels.get(key, "") for key in strata)
