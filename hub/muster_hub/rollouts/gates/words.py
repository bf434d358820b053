"""What a gate tells an operator: what was found, how sure that is, and what would settle it.

Pure.
"""

import math
from collections.abc import Sequence
from typing import Literal, assert_never

from muster_hub.rollouts.gates.statistics import Comparison, t_quantile

Unit = Literal["ratio", "points", "difference"]
"""How harm is told: as a factor, in points of a share, or in the metric's own unit."""
INTERVAL_CHANCE = 0.95
"""One-sided, so that the interval shown covers 90 %."""
WAIT_SPREAD = 1.3
"""Said as a range, because what is still to come varies about so much."""
TOLERATED_STEPS = (1.2, 1.5, 2.0, 3.0, 5.0)


def stopped(name: str, unit: Unit, chance: float, compared: Comparison) -> str:
    """Why a metric stops the rollout."""
    return (
        f"Stopped: {name} {_size(compared.harm, unit)}; "
        f"chance of a false stop about {_percent(chance)}{_outliers(compared)}."
    )


def warned(name: str, unit: Unit, chance: float, compared: Comparison) -> str:
    """What a metric warns of."""
    return (
        f"{name} {_size(compared.harm, unit)} against devices without the release; "
        f"chance of a false warning about {_percent(chance)}{_outliers(compared)}."
    )


def above(name: str, limit: float, chance: float, compared: Comparison) -> str:
    """What a metric with a fixed limit warns of."""
    return (
        f"{name} {_percent(compared.harm + limit)} on {compared.devices} devices, above the "
        f"{_percent(limit)} that the plan tolerates; chance of a false warning about "
        f"{_percent(chance)}."
    )


def _outliers(compared: Comparison) -> str:
    if not compared.outliers:
        return ""
    are = "is an outlier" if compared.outliers == 1 else "are outliers"
    return f"; {compared.outliers} of {compared.devices} devices {are}"


def advanced(names: Sequence[str]) -> str:
    """Why the wave may end."""
    return f"Advance: {_and(names)} shown to be no worse than the margins allow."


def blind(silent: int, canaries: int) -> str:
    """Too many canaries are silent for anything to be shown."""
    return f"Blind: {silent} of {canaries} devices silent; can't advance."


def nothing_yet(names: Sequence[str]) -> str:
    """No data came yet for some metrics."""
    return f"Not enough evidence: nothing received yet about {_and(names)}."


def soaking() -> str:
    """Evidence is enough, the wave has not lasted long enough."""
    return "Evidence is enough; waiting until the wave has lasted as long as the plan asks."


def too_few(canaries: int, wanted: int, sees_doubling: int) -> str:
    """Fewer canaries than evidence needs, and what would settle it."""
    seen = "; that few can't show a doubling" if canaries < sees_doubling else ""
    devices = "1 device" if canaries == 1 else f"{canaries} devices"
    return (
        f"Not enough evidence: {devices} in this wave{seen}. Advancing on evidence needs {wanted}; "
        "add devices or advance by hand."
    )


def not_enough(
    name: str,
    unit: Unit,
    margin: float,
    compared: Comparison,
    chance: float,
    device_hours: float,
    next_look: int | None,
) -> str:
    """Why the margin isn't proved yet, and what would prove it."""
    found = f"{name} {_interval(compared, unit)}"
    if compared.harm >= margin:
        return (
            f"Not enough evidence: {found}; more than the margin of {_size(margin, unit)} allows."
        )
    quantile = t_quantile(compared.degrees, 1 - chance)
    allowed = ((margin - compared.harm) / quantile) ** 2
    if compared.variance_cautious <= allowed:
        when = f"judged at look {next_look}" if next_look else "but the last look has passed"
        return f"Evidence looks enough: {found}; {when}."
    lasting = min(compared.variance_lasting, compared.variance_cautious)
    if lasting >= allowed:
        needed = math.ceil(compared.devices * lasting / allowed)
        return (
            f"More time won't settle this: {found}, and device differences dominate; need about "
            f"{_round(needed)} devices{_or_accept(compared, unit, quantile, lasting)}."
        )
    passing = compared.variance_cautious - lasting
    more = device_hours * (passing / (allowed - lasting) - 1)
    low, high = _round(more / WAIT_SPREAD), _round(more * WAIT_SPREAD)
    hours = f"{low}–{high}" if low < high else f"{high}"
    return f"Not enough evidence: {found}. Need about {hours} more device-hours."


def not_yet_rare(
    name: str,
    events: float,
    bound: float,
    negligible: float,
    device_hours: float,
    next_look: int | None,
) -> str:
    """Events are few: what would show that they are negligible, as no ratio can."""
    found = f"{name} are rare ({events:.3g} so far): at most {_percent(bound)} is shown"
    if bound <= negligible:
        when = f"judged at look {next_look}" if next_look else "but the last look has passed"
        return f"Evidence looks enough: {found}; {when}."
    more = device_hours * (bound / negligible - 1)
    low, high = _round(more), _round(more * WAIT_SPREAD)
    hours = f"{low}–{high}" if low < high else f"{high}"
    return (
        f"Not enough evidence: {found}, {_percent(negligible)} would do. "
        f"Need about {hours} more device-hours."
    )


def _or_accept(compared: Comparison, unit: Unit, quantile: float, lasting: float) -> str:
    """The margin that these devices could prove in the end."""
    reachable = compared.harm + quantile * math.sqrt(lasting)
    match unit:
        case "points":
            return f" or accept {_size(math.ceil(reachable * 100) / 100, unit)}"
        case "difference":
            return f" or accept {_size(reachable, unit)}"
        case "ratio":
            step = next((step for step in TOLERATED_STEPS if math.log(step) > reachable), None)
            return "" if step is None else f" or accept {step:g}×"
        case _:
            assert_never(unit)


def _interval(compared: Comparison, unit: Unit) -> str:
    half = t_quantile(compared.degrees, INTERVAL_CHANCE) * math.sqrt(compared.variance_cautious)
    low, high = compared.harm - half, compared.harm + half
    match unit:
        case "points":
            return f"{100 * compared.harm:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        case "difference":
            return f"{compared.harm:+.3g} ({low:+.3g} to {high:+.3g})"
        case "ratio":
            shown = [math.exp(min(value, 20.0)) for value in (compared.harm, low, high)]
            return "{:.2f}× ({:.2f}–{:.2f})".format(*shown)
        case _:
            assert_never(unit)


def _size(harm: float, unit: Unit) -> str:
    match unit:
        case "points":
            return f"{100 * harm:+.1f} points"
        case "difference":
            return f"{harm:+.3g}"
        case "ratio":
            return f"{math.exp(min(harm, 20.0)):.3g}×"
        case _:
            assert_never(unit)


def _percent(chance: float) -> str:
    return f"{100 * chance:.2g} %"


def _round(value: float) -> int:
    """Two significant digits: more would pretend."""
    if value < 10:
        return max(1, round(value))
    step = int(10 ** (math.floor(math.log10(value)) - 1))
    return round(value / step) * step


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
