"""A finding of drift in words: what, from where to where, since when, who else, what then. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from muster_hub.monitoring.peers import Cause, Company

_UNIT = re.compile(r"[\[(]([^\])]{1,12})[\])]\s*$")
FAULTS: Mapping[str, str] = {
    "stuck": "stands still",
    "clipped": "is cut off",
    "spiking": "has spikes",
    "noisy": "is noisy",
    "dropped out": "has dropped out",
    "unit changed": "comes in another unit",
}
FAULT_ADVICE: Mapping[str, str] = {
    "stuck": "The value no longer changes at all: check the sensor, its converter and its cable, "
    "and whether a driver repeats its last value.",
    "clipped": "Values end where training went on: check the range of the sensor and converter.",
    "spiking": "Single values are far off, the others as ever: check contacts, shielding and "
    "grounding.",
    "noisy": "The level is as ever, its noise has grown: check shielding, grounding, mounting and "
    "the sensor itself.",
    "dropped out": "No value comes any more: check the sensor, its cable and what reads it.",
    "unit changed": "The values are the old ones in another unit: check what was set anew at the "
    "source, and convert there.",
}
LIGHT: Mapping[str, str] = {
    "brightness higher": "brighter pictures",
    "brightness lower": "darker pictures",
    "contrast higher": "pictures of more contrast",
    "contrast lower": "flatter pictures",
}
"""What a picture's statistic and its direction look like."""
LIGHT_ADVICE = (
    "The light has changed, or what stands in its way: check lamps, daylight, exposure and gain, "
    "lens and window. Retrain only when the new light is to stay."
)


def title(device: str, feature: str, finding: Mapping[str, Any], company: Company) -> str:
    """Such as ``pump-1: temperature [°C] 89.5 → 92.1 °C, higher since 14:05, …``."""
    fault = str(finding.get("fault") or "")
    movement = _movement(feature, finding)
    if fault:
        detail = f", {finding['detail']}" if finding.get("detail") else ""
        said = f"{feature} {FAULTS.get(fault, fault)}{movement}{detail}"
    elif finding.get("statistic") == "relation":
        said = f"{feature} moves unlike before together with others"
    else:
        light = _light(feature, finding)
        seen = f" ({light}: lighting)" if light else ""
        said = f"{feature}{movement}, {finding.get('direction') or 'drifts'}{seen}"
    return f"{device}: {said} since {_clock(finding.get('since'))}, {_where(company)}"


def advice(feature: str, finding: Mapping[str, Any], by_cause: str) -> str:
    """What to do: of a named fault its own, of light what light needs, else what the cause
    suggests."""
    usual = LIGHT_ADVICE if _light(feature, finding) else by_cause
    return FAULT_ADVICE.get(str(finding.get("fault") or ""), usual)


def _light(feature: str, finding: Mapping[str, Any]) -> str:
    """How pictures look whose brightness or contrast has moved; empty of anything else."""
    tensor, _, statistic = feature.rpartition(".")
    return LIGHT.get(f"{statistic} {finding.get('direction')}", "") if tensor else ""


def cause(finding: Mapping[str, Any], company: Company) -> Cause:
    """A named fault is the sensor's, unless most peers have it too."""
    found = company.cause
    return "sensor" if finding.get("fault") and found == "unknown" else found


def _movement(feature: str, finding: Mapping[str, Any]) -> str:
    before, now = finding.get("before"), finding.get("now")
    if before is None or now is None:
        return ""
    unit = _UNIT.search(feature)
    return f" {before:.4g} → {now:.4g}{' ' + unit.group(1) if unit else ''}"


def _clock(since: float | None) -> str:
    if not since:
        return "its latest windows"
    return datetime.fromtimestamp(since, UTC).strftime("%d %b %H:%M UTC")


def _where(company: Company) -> str:
    along = company.group_along + company.others_along
    peers = company.group_peers + company.others_peers
    if not peers:
        return "no peers to compare with"
    return f"on {along} of {peers} peers too" if along else f"on none of {peers} peers"
