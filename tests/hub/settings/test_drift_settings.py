"""How drift is judged, as hub.toml says it and a directive carries it."""

import msgspec
import pytest
from msgspec import UNSET

from muster_hub.settings.drift import DriftSettings
from muster_protocol.signals.rule import Rule
from muster_protocol.wire.directive import Drift


def read(text: str) -> DriftSettings:
    return msgspec.toml.decode(text, type=DriftSettings)


def test_the_usual_settings_are_absent_from_a_directive() -> None:
    assert read("").of("pump", {"site": "berlin"}) is UNSET
    assert Rule.of(300.0) == Rule()


def test_of_several_rules_that_fit_the_last_one_counts_value_by_value() -> None:
    settings = read(
        """
        budget_per_month = 1.0
        [[rules]]
        model = "pump"
        settle_hours = 0
        [[rules]]
        selector = "site=berlin"
        budget_per_month = 0.1
        """
    )
    assert settings.of("fan", {}) == Drift(budget_per_month=1.0)
    assert settings.of("pump", {}) == Drift(budget_per_month=1.0, settle_seconds=0.0)
    berlin = settings.of("pump", {"site": "berlin"})
    assert berlin == Drift(budget_per_month=0.1, settle_seconds=0.0)
    rule = Rule.of(60.0, berlin)
    assert (rule.budget_per_month, rule.settle_windows, rule.window_seconds) == (0.1, 0, 60.0)


def test_times_are_hours_whatever_the_window_length() -> None:
    drift = read("calibration_hours = 48\nsettle_hours = 12").of("m", {})
    by_window = {seconds: Rule.of(seconds, drift) for seconds in (60.0, 300.0, 3600.0)}
    assert {s: rule.calibration_windows for s, rule in by_window.items()} == {
        60.0: 2880, 300.0: 576, 3600.0: 48,
    }  # fmt: skip
    assert by_window[3600.0].settle_windows == 24, "no time is so short that fewer windows count"


@pytest.mark.parametrize(
    "text",
    ["budget_per_month = 0", "settle_hours = -1", "calibration_hours = 1e9", "windows = 3",
     '[[rules]]\nselector = "site="\nsettle_hours = 1'],
)  # fmt: skip
def test_what_can_not_be_is_refused(text: str) -> None:
    with pytest.raises((msgspec.ValidationError, ValueError)):
        read(text)
