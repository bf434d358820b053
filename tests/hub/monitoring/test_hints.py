"""What is said of accuracy without labels: a hint behind a screen, and never an alert."""

from typing import Any

import numpy as np
import pytest

from muster_hub.alerts import causes
from muster_hub.monitoring import hints
from muster_hub.storage.models import DriftState
from muster_protocol.signals import histogram

RNG = np.random.default_rng(3)


def window(mean: float, rows: int = 200) -> np.ndarray:
    confidence = np.clip(RNG.normal(mean, 0.05, rows), 0, 1)
    return histogram.count_confidence(confidence)


def lived(*parts: tuple[int, float, tuple[str, ...]]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for windows, mean, drifting in parts:
        for _ in range(windows):
            known = hints.follow(known, window(mean), drifting)
    return known


def test_confidence_that_falls_while_inputs_drift_is_worth_a_look() -> None:
    hint = lived((30, 0.9, ()), (12, 0.7, ("temperature", "flow")))["hint"]
    assert hint.startswith("confidence fell from 0.90 to 0.7")
    assert "flow (and 1 more) drifts" in hint


@pytest.mark.parametrize(
    "parts",
    [
        ((30, 0.9, ()), (12, 0.7, ())),
        ((30, 0.9, ()), (12, 0.89, ("flow",))),
        ((30, 0.9, ()), (12, 0.97, ("flow",))),
        ((10, 0.9, ()), (40, 0.7, ("flow",))),
        ((30, 0.9, ()), (12, 0.7, ("flow",)), (20, 0.9, ("flow",))),
    ],
    ids=["no drift", "hardly lower", "higher", "usual not known", "back again"],
)
def test_nothing_is_said_where_it_would_be_a_guess(
    parts: tuple[tuple[int, float, tuple[str, ...]], ...],
) -> None:
    assert lived(*parts)["hint"] == ""


def test_windows_without_confidence_change_nothing() -> None:
    known = lived((30, 0.9, ()), (12, 0.7, ("flow",)))
    none = np.zeros(histogram.CONFIDENCE_BINS, np.int64)
    assert hints.follow(known, none, ()) == known


def test_a_hint_raises_no_alert() -> None:
    known = lived((30, 0.9, ()), (12, 0.7, ("flow",)))
    view = {"model": "m", "version": "1", "drifting": [], "findings": {}, "confidence": known}
    state = DriftState(device="d", manifest="aa", state=b"", view=view, updated=1.0)
    assert causes.drift_conditions([state], {"d": {}}) == []
