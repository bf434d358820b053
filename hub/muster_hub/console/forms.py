"""A form's fields as the body that the API takes, and what is wrong with it in words."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from muster_hub.api.schemas.rollouts import RolloutAsk
from muster_hub.errors import Invalid

ROLLOUT: Mapping[str, str] = {
    "model": "", "version": "", "slot": "main", "selector": "", "canary": "25%", "waves": "",
    "soak_minutes": "60", "in_flight_max": "", "failures_allowed": "0", "holdback": "",
    "strata": "", "budget_by": "", "budget_max": "", "window_start": "", "window_end": "",
    "gate": "", "metrics": "", "looks": "", "approve_start": "", "approve_waves": "",
}  # fmt: skip
"""The fields of the page that starts a rollout, as they are before somebody types."""


def rollout(fields: Mapping[str, str]) -> RolloutAsk:
    """What a rollout's form asks for. Raises Invalid, naming what can't be read."""
    given = {name: fields[name].strip() for name in ROLLOUT}
    asked: dict[str, Any] = {
        "model": given["model"],
        "version": given["version"],
        "slot": given["slot"],
        "selector": given["selector"],
        "canary": _share_or_count(given["canary"], "canary"),
        "min_soak_seconds": 60 * _number(given["soak_minutes"] or "0", "soak"),
        "failures_allowed": int(_number(given["failures_allowed"] or "0", "failures allowed")),
        "in_flight_max": int(_number(given["in_flight_max"] or "0", "at once")),
        "holdback": int(_number(given["holdback"] or "0", "held back")),
        "strata": _words(given["strata"]),
        "waves": [
            {"share": _share(word), "approve": bool(given["approve_waves"])}
            for word in _words(given["waves"])
        ],
        "budgets": _budgets(given),
        "windows": _windows(given),
        "approve_start": bool(given["approve_start"]),
    }
    if given["gate"]:
        asked["gate"] = _gate(given)
    try:
        return RolloutAsk(**asked)
    except ValidationError as error:
        raise Invalid(_faults(error)) from None


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(step) for step in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()[:5]
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{what}: {text[:40]!r} is not a number") from None


def _share(text: str) -> float:
    """``25%`` or ``0.25``."""
    if text.endswith("%"):
        return _number(text[:-1], "a wave") / 100
    return _number(text, "a wave")


def _share_or_count(text: str, what: str) -> float | int:
    if text.endswith("%"):
        return _number(text[:-1], what) / 100
    found = _number(text or "0", what)
    return int(found) if found.is_integer() else found


def _gate(given: Mapping[str, str]) -> dict[str, Any]:
    gate: dict[str, Any] = {}
    if given["looks"]:
        gate["looks"] = int(_number(given["looks"], "looks"))
    if given["metrics"]:
        gate["metrics"] = _words(given["metrics"])
    return gate


def _budgets(given: Mapping[str, str]) -> list[dict[str, Any]]:
    most = given["budget_max"]
    if not most:
        return []
    amount = most if most.endswith("%") else int(_number(most, "budget"))
    return [{"group_by": _words(given["budget_by"]), "max_unavailable": amount}]


def _windows(given: Mapping[str, str]) -> list[dict[str, Any]]:
    start, end = given["window_start"], given["window_end"]
    return [{"start": start, "end": end}] if start or end else []
