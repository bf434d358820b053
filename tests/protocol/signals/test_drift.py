"""The drift monitor: quiet when nothing happens, quick when something does."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from muster_protocol.signals import baseline, binning, features
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.drift import DriftMonitor
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.errors import ProtocolError
from support.summaries import fitted, rows, stamp, window

DAY = 40
"""Calibration windows in these tests: a short day."""
RULE = Rule(calibration_seconds=DAY * 300, calibration_seconds_max=DAY * 300)


def gaussian(features_: int = 4) -> Baseline:
    x = np.random.default_rng(1).normal(size=(20_000, features_))
    return baseline.fit({"x": x}, features.elements("x", features_))


def summarise(trained: Baseline, **tensors: np.ndarray) -> Summary:
    counted = binning.count(trained, tensors)
    return Summary("m", "1", "aa" * 32, stamp(0), stamp(1), features=counted)


def opened(findings: list[DriftFinding]) -> list[str]:
    return [finding.feature for finding in findings if finding.state == "opened"]


def feed_until_found(monitor: DriftMonitor, windows: list[Summary]) -> tuple[int, DriftFinding]:
    for number, summary in enumerate(windows, start=1):
        for finding in monitor.feed(summary):
            return number, finding
    raise AssertionError("nothing was found")


def calibrated(trained: Baseline, *, n: int = 300, offset: float = 0.0) -> DriftMonitor:
    monitor = DriftMonitor(trained, RULE)
    rng = np.random.default_rng(2)
    for _ in range(DAY):
        x = rng.normal(offset, 1, size=(n, len(trained)))
        assert monitor.feed(summarise(trained, x=x)) == []
    return monitor


# The demo's camera: windows of held-out digits, drawn again and again from a finite set.


@cache
def camera(seed: int) -> tuple[Baseline, np.ndarray, LogisticRegression]:
    x, y = load_digits(return_X_y=True)
    train, held_out, labels, _ = train_test_split(x, y, test_size=0.3, random_state=seed)
    model = LogisticRegression(max_iter=2000, C=0.01).fit(train, labels)
    spec = (
        *features.image("image", height=8, width=8),
        *features.elements("image", 64),
        *features.classifier("scores"),
    )
    return baseline.fit(seen(model, train), spec), held_out, model


def seen(model: LogisticRegression, images: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": images.reshape(-1, 8, 8), "scores": model.predict_proba(images)}


def degraded(images: np.ndarray) -> np.ndarray:
    """Out of focus and overexposed."""
    grid = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), mode="edge")
    grid = (grid[:, :-2] + 2 * grid[:, 1:-1] + grid[:, 2:]) / 4
    grid = (grid[:, :, :-2] + 2 * grid[:, :, 1:-1] + grid[:, :, 2:]) / 4
    return np.clip(grid + 3, 0, 16).reshape(-1, 64)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [100, 300])
def test_a_camera_is_quiet_until_its_images_blur_and_then_found_at_once(seed: int, n: int) -> None:
    trained, held_out, model = camera(seed)
    # Windows of three seconds: thousands of chances a day to be wrong.
    monitor = DriftMonitor(trained, Rule(window_seconds=3.0))
    rng = np.random.default_rng([seed, n])
    for _ in range(80):
        images = held_out[rng.integers(0, len(held_out), n)]
        assert monitor.feed(summarise(trained, **seen(model, images))) == []
    found: set[str] = set()
    for _ in range(2):
        images = degraded(held_out[rng.integers(0, len(held_out), n)])
        found |= set(opened(monitor.feed(summarise(trained, **seen(model, images)))))
    assert {"image.brightness", "image.sharpness"} <= found
    assert {"image.brightness", "image.sharpness"} <= monitor.drifting()


# The rule, piece by piece.


def test_the_first_windows_are_not_judged() -> None:
    trained = gaussian()
    monitor = DriftMonitor(trained)
    shifted = summarise(trained, x=np.random.default_rng(0).normal(3, 1, size=(300, 4)))
    fed = [monitor.feed(shifted) for _ in range(6)]
    assert [bool(findings) for findings in fed] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("change", "statistic", "direction"),
    [
        (lambda x: x + 1, "location", "higher"),
        (lambda x: x - 1, "location", "lower"),
        (lambda x: x * 3, "dispersion", "wider"),
        (lambda x: x / 5, "dispersion", "narrower"),
        (lambda x: np.where(np.arange(len(x))[:, None] % 2, x, np.nan), "missing", "more missing"),
    ],
)
@pytest.mark.parametrize("ready", [False, True])
def test_a_finding_says_what_moved_and_which_way(change, statistic, direction, ready) -> None:
    trained = gaussian(1)
    monitor = calibrated(trained) if ready else DriftMonitor(trained, RULE)
    rng = np.random.default_rng(3)
    for _ in range(6):
        monitor.feed(summarise(trained, x=rng.normal(size=(300, 1))))
    (finding,) = monitor.feed(summarise(trained, x=change(rng.normal(size=(300, 1)))))
    assert finding.status == ("calibrated" if ready else "calibrating")
    assert finding.direction == direction
    assert finding.statistic in (statistic, "innovation")
    assert finding.effect >= RULE.effect
    assert abs(finding.value) > finding.limit


def test_a_category_that_becomes_frequent_is_named() -> None:
    trained = fitted()
    monitor = DriftMonitor(trained, RULE)
    for number in range(6):
        assert monitor.feed(window(300, seed=number)) == []
    tensors = rows(300, seed=9)
    tensors["x"][:, 3] = np.where(np.arange(300) % 2, tensors["x"][:, 3], 11)
    (finding,) = monitor.feed(summarise(trained, **tensors))
    assert (finding.feature, finding.direction) == ("grade", "more 11")


def test_half_a_sigma_is_found_within_three_windows_of_300_rows() -> None:
    trained = gaussian(8)
    rng = np.random.default_rng(5)
    for _ in range(10):
        monitor = calibrated(trained)
        shift = np.r_[0.5, np.zeros(7)]
        windows = [summarise(trained, x=rng.normal(shift, 1, size=(300, 8))) for _ in range(3)]
        number, finding = feed_until_found(monitor, windows)
        assert finding.feature == "x[0]"
        assert number <= 3


def test_a_shift_that_does_not_matter_is_no_drift_however_certain() -> None:
    trained = gaussian()
    monitor = calibrated(trained, n=3000)
    rng = np.random.default_rng(6)
    for _ in range(30):
        x = rng.normal(0.1, 1, size=(3000, 4))  # 5 standard errors, PSI 0.01
        assert monitor.feed(summarise(trained, x=x)) == []


def test_a_calibrated_device_is_compared_with_its_own_normal() -> None:
    """A fifth of a sigma off training is within the gate: the device's normal, not drift."""
    trained = gaussian()
    monitor = calibrated(trained, offset=0.2)
    assert set(monitor.status().values()) == {"calibrated"}
    rng = np.random.default_rng(7)
    for _ in range(20):
        assert monitor.feed(summarise(trained, x=rng.normal(0.2, 1, size=(300, 4)))) == []
    back = [summarise(trained, x=rng.normal(-0.3, 1, size=(300, 4))) for _ in range(3)]
    assert feed_until_found(monitor, back)[1].direction == "lower"


def test_dirt_at_installation_is_not_learned_as_normal() -> None:
    trained = gaussian(2)
    monitor = DriftMonitor(trained, RULE)
    rng = np.random.default_rng(8)
    for _ in range(DAY + 1):
        findings = monitor.feed(summarise(trained, x=rng.normal([1, 0], 1, size=(300, 2))))
    assert monitor.status() == {"x[0]": "refused", "x[1]": "calibrated"}
    assert [(finding.feature, finding.state) for finding in findings] == [("x[0]", "holding")]


def test_rebaselining_takes_the_present_as_normal() -> None:
    trained = gaussian(2)
    monitor = DriftMonitor(trained, RULE)
    rng = np.random.default_rng(9)
    for _ in range(20):
        monitor.feed(summarise(trained, x=rng.normal([1, 0], 1, size=(300, 2))))
    assert monitor.drifting() == {"x[0]"}
    monitor.rebaseline()
    for _ in range(DAY + 20):
        assert monitor.feed(summarise(trained, x=rng.normal([1, 0], 1, size=(300, 2)))) == []
    assert set(monitor.status().values()) == {"calibrated"}
    back = [summarise(trained, x=rng.normal(0, 1, size=(300, 2))) for _ in range(3)]
    assert feed_until_found(monitor, back)[1].feature == "x[0]"


def test_a_feature_recovers_after_quiet_windows() -> None:
    trained = gaussian(1)
    monitor = calibrated(trained)
    rng = np.random.default_rng(10)
    good = [summarise(trained, x=rng.normal(size=(300, 1))) for _ in range(30)]
    bad = summarise(trained, x=rng.normal(2, 1, size=(300, 1)))
    states = [finding.state for item in (bad, bad, *good) for finding in monitor.feed(item)]
    assert states[0] == "opened"
    assert states[-1] == "cleared"
    assert states.count("opened") == states.count("cleared") == 1
    assert not monitor.drifting()


def test_dependent_rows_do_not_alarm_an_uncalibrated_device() -> None:
    """AR(0.9) rows: a window of 300 is worth 16 independent ones, and the monitor notices."""
    trained = gaussian(8)
    rng = np.random.default_rng(11)
    monitor = DriftMonitor(trained, Rule(calibration_seconds=10_000 * 300))
    level = rng.normal(size=8)
    for _ in range(200):
        noise = rng.normal(size=(300, 8)) * np.sqrt(1 - 0.81)
        x = np.empty((300, 8))
        for row, step in zip(x, noise, strict=True):
            level = 0.9 * level + step
            row[:] = level
        assert opened(monitor.feed(summarise(trained, x=x))) == []


def test_fewer_rows_than_usual_may_stray_further() -> None:
    trained = gaussian()
    monitor = calibrated(trained, n=3000)
    rng = np.random.default_rng(12)
    for _ in range(200):
        assert monitor.feed(summarise(trained, x=rng.normal(size=(30, 4)))) == []


def test_the_state_continues_where_it_was_encoded() -> None:
    trained = fitted()
    rule = RULE
    whole, parts = DriftMonitor(trained, rule), DriftMonitor(trained, rule)
    for number in range(2 * DAY):
        shift = 1.0 if number > 1.7 * DAY else 0.0
        item = window(200, seed=number, shift=shift, nulls=0.05)
        assert whole.feed(item) == parts.feed(item)
        parts = DriftMonitor.decode(trained, rule, parts.encode())
    assert "temperature" in whole.drifting()
    assert whole.status() == parts.status()


def test_a_state_of_another_baseline_is_refused() -> None:
    data = DriftMonitor(gaussian(3)).encode()
    with pytest.raises(ProtocolError, match="does not fit"):
        DriftMonitor.decode(gaussian(2), None, data)
    with pytest.raises(ProtocolError, match="not a drift monitor's state"):
        DriftMonitor.decode(gaussian(2), None, b"noise")


def test_windows_without_rows_or_features_change_nothing() -> None:
    monitor = DriftMonitor(fitted())
    before = monitor.encode()
    assert monitor.feed(window(0)) == []
    assert monitor.feed(replace(window(9), features=None)) == []
    assert monitor.encode() == before


def test_windows_merged_on_the_way_are_judged_but_teach_nothing_about_single_ones() -> None:
    trained = gaussian(1)
    monitor = DriftMonitor(trained, RULE)
    rng = np.random.default_rng(13)
    for _ in range(DAY + 5):
        item = summarise(trained, x=rng.normal(size=(1200, 1)))
        assert monitor.feed(replace(item, windows=4)) == []
    assert monitor.status() == {"x[0]": "calibrating"}
    bad = summarise(trained, x=rng.normal(1, 1, size=(1200, 1)))
    assert opened(monitor.feed(replace(bad, windows=4))) == ["x[0]"]


def test_a_passing_fault_in_the_first_day_is_not_learned_as_normal() -> None:
    trained = gaussian(1)
    monitor = DriftMonitor(
        trained, replace(RULE, calibration_seconds=600 * DAY, calibration_seconds_max=600 * DAY)
    )
    rng = np.random.default_rng(14)
    for number in range(2 * DAY):
        shift = 2.0 if 10 <= number < 18 else 0.0
        monitor.feed(summarise(trained, x=rng.normal(shift, 1, size=(300, 1))))
    assert monitor.status() == {"x[0]": "calibrated"}
    moved = [summarise(trained, x=rng.normal(0.6, 1, size=(300, 1))) for _ in range(3)]
    assert feed_until_found(monitor, moved)[1].direction == "higher"
    assert monitor.drifting() == {"x[0]"}


def test_drift_ends_after_six_windows_without_a_finding() -> None:
    trained = gaussian(1)
    monitor = calibrated(trained)
    rng = np.random.default_rng(15)
    bad = [summarise(trained, x=rng.normal(2, 1, size=(300, 1))) for _ in range(2)]
    good = [summarise(trained, x=rng.normal(size=(300, 1))) for _ in range(30)]
    states = [[finding.state for finding in monitor.feed(item)] for item in (*bad, *good)]
    cleared = states.index(["cleared"])
    assert states[cleared - 6 : cleared] == [["holding"], *[[]] * 5]
    assert states[cleared + 1 :] == [[]] * (len(states) - cleared - 1)


def test_a_feature_that_drifted_half_of_its_first_day_has_no_normal_yet() -> None:
    trained = gaussian(2)
    monitor = DriftMonitor(trained, RULE)
    rng = np.random.default_rng(16)
    for number in range(DAY):
        shift = 3.0 if 6 <= number < 6 + DAY // 2 else 0.0
        monitor.feed(summarise(trained, x=rng.normal([shift, 0], 1, size=(300, 2))))
    assert monitor.status() == {"x[0]": "refused", "x[1]": "calibrated"}


def test_what_is_a_little_off_at_installation_is_not_learned_as_normal() -> None:
    trained = gaussian(2)
    monitor = DriftMonitor(trained, RULE)
    rng = np.random.default_rng(17)
    for _ in range(DAY):
        x = rng.normal([0.5, 0], 1, size=(300, 2))
        assert monitor.feed(summarise(trained, x=x)) == []
    assert monitor.status() == {"x[0]": "refused", "x[1]": "calibrated"}
