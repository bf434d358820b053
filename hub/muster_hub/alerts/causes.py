"""Drift alerts with their cause: each drifting device beside those that run the same model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster_hub.alerts import finding_words, rules
from muster_hub.alerts.notices import LABEL_SITE
from muster_hub.alerts.rules import Condition
from muster_hub.monitoring import accuracy, inputs, peers
from muster_hub.monitoring.peers import Moved, Peers

FINDINGS_MAX = 20
"""Of one device and model that are alerts of their own; further ones are one alert together."""


@dataclass(frozen=True)
class DriftSeen:
    """What a monitor says of a version on a device; of a peer that is well, nothing."""

    device: str
    manifest: str
    view: Mapping[str, Any] = field(default_factory=dict)


def drift_conditions(
    states: Iterable[DriftSeen], labels: Mapping[str, Mapping[str, str]]
) -> list[Condition]:
    """A condition for each finding of each state; the others are the peers it is held beside."""
    fleets: dict[str, list[tuple[DriftSeen, Moved]]] = {}
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
        fleet = Peers(moved for _, moved in members)
        for state, moved in members:
            found += _of_device(state, moved, fleet)
    return found


def _of_device(state: DriftSeen, moved: Moved, fleet: Peers) -> list[Condition]:
    """One for each finding, so that a standing one hides no other; the worst many are one."""
    view = state.view
    found = _of_requests(state)
    names = sorted(moved.features, key=lambda name: (_since(view, name), name))
    for name in names[:FINDINGS_MAX]:
        finding = dict(view.get("findings", {}).get(name, {}))
        company = fleet.company(moved, name)
        cause = finding_words.cause(finding, company)
        found.append(
            rules.drifted(
                state.device, view["model"], view["version"], name,
                title=finding_words.title(state.device, name, finding, company),
                since=_since(view, name),
                detail={
                    "cause": cause,
                    "site": moved.group,
                    "advice": finding_words.advice(name, finding, peers.ADVICE[cause]),
                    "findings": {name: finding | {"cause": cause, "company": vars(company)}},
                },
            )
        )  # fmt: skip
    if len(names) > FINDINGS_MAX:
        found.append(
            rules.drifted_widely(state.device, view["model"], view["version"], names[FINDINGS_MAX:])
        )
    return found


def _of_requests(state: DriftSeen) -> list[Condition]:
    """What requests and labels show, whatever is seen of features."""
    view, found = state.view, []
    if view.get("inputs", {}).get("since") is not None:
        found.append(rules.inputs_refused(state.device, view, inputs.share(view["inputs"])))
    if view.get("labels", {}).get("since") is not None:
        labels = view["labels"]
        found.append(
            rules.mistakes_risen(state.device, view, labels["usual"], accuracy.error_rate(labels))
        )
    return found


def _since(view: Mapping[str, Any], name: str) -> float:
    return float(view.get("findings", {}).get(name, {}).get("since") or 0.0)
