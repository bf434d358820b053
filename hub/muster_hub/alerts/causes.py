"""Drift alerts with their cause: each drifting device beside those that run the same model."""

from collections.abc import Iterable, Mapping
from typing import Any

from muster_hub.alerts import rules
from muster_hub.alerts.notices import LABEL_SITE
from muster_hub.alerts.rules import Condition
from muster_hub.monitoring import peers
from muster_hub.monitoring.peers import Moved
from muster_hub.storage.models import DriftState


def drift_conditions(
    states: Iterable[DriftState], labels: Mapping[str, Mapping[str, str]]
) -> list[Condition]:
    """An alert's condition for each drifting state; the others are the peers it is held beside."""
    fleets: dict[str, list[tuple[DriftState, Moved]]] = {}
    for state in states:
        group = labels.get(state.device, {}).get(LABEL_SITE, "")
        findings = state.view.get("findings", {})
        directions = {
            name: str(findings.get(name, {}).get("direction", ""))
            for name in state.view.get("drifting", ())
        }
        moved = Moved(state.device, group, directions)
        fleets.setdefault(state.manifest, []).append((state, moved))
    found = []
    for members in fleets.values():
        fleet = [moved for _, moved in members]
        for state, moved in members:
            if moved.features:
                view = state.view
                condition = rules.drifted(
                    state.device, view["model"], view["version"], moved.features,
                    _alert_detail(view, moved, fleet),
                )  # fmt: skip
                found += [] if condition is None else [condition]
    return found


def _alert_detail(view: Mapping[str, Any], moved: Moved, fleet: list[Moved]) -> dict[str, Any]:
    company = {name: peers.company(moved, name, fleet) for name in sorted(moved.features)}
    return {
        "cause": peers.verdict(company.values()),
        "site": moved.group,
        "findings": {
            name: dict(view.get("findings", {}).get(name, {}))
            | {"cause": feature.cause, "company": vars(feature)}
            for name, feature in company.items()
        },
    }
