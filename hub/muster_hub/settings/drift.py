"""The ``[drift]`` part of hub.toml: how drift is judged, everywhere, per model and per device."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from muster_protocol.wire import limits, selectors
from muster_protocol.wire.directive import Drift

HOUR_SECONDS = 3600.0
Budget = Annotated[float, Meta(gt=0, le=1000)]
Hours = Annotated[float, Meta(ge=0, le=limits.DRIFT_SECONDS_MAX / HOUR_SECONDS)]
CalibrationHours = Annotated[float, Meta(gt=0, le=limits.DRIFT_SECONDS_MAX / HOUR_SECONDS)]


class DriftRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Other values for some models or devices, as an entry of ``[[drift.rules]]``."""

    model: str = ""
    """Only this model; empty: every one."""
    selector: str = ""
    """Only devices with such labels; empty: every one."""
    budget_per_month: Budget | None = None
    calibration_hours: CalibrationHours | None = None
    settle_hours: Hours | None = None

    def __post_init__(self) -> None:
        if self.selector:
            selectors.parse(self.selector)

    def covers(self, model: str, labels: Mapping[str, str]) -> bool:
        """Whether the rule is about this model on a device with these labels."""
        if self.model and self.model != model:
            return False
        return not self.selector or selectors.parse(self.selector).matches(labels)


class DriftSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How drift is judged, on devices and at the hub alike."""

    budget_per_month: Budget = 0.5
    """False alerts that are acceptable, per device and month."""
    calibration_hours: CalibrationHours = 24.0
    """How long a device is watched before its own windows say what is normal, where a baseline
    does not know training in time."""
    settle_hours: Hours = 24.0
    """A change that has stood so long, and is no sensor's fault, is the new normal; 0: never."""
    rules: Annotated[tuple[DriftRule, ...], Meta(max_length=256)] = ()
    """Other values for some models or devices, as ``[[drift.rules]]``; of several the last one."""

    def of(self, model: str, labels: Mapping[str, str]) -> Drift | UnsetType:
        """What a directive says of a model on a device; absent where it is as usual."""
        values = {
            name: getattr(self, name)
            for name in ("budget_per_month", "calibration_hours", "settle_hours")
        }
        for rule in self.rules:
            if rule.covers(model, labels):
                own = {name: getattr(rule, name) for name in values}
                values |= {name: value for name, value in own.items() if value is not None}
        drift = Drift(
            budget_per_month=values["budget_per_month"],
            calibration_seconds=values["calibration_hours"] * HOUR_SECONDS,
            settle_seconds=values["settle_hours"] * HOUR_SECONDS,
        )
        return UNSET if drift == Drift() else drift
