"""Device and hub judge the same windows: the one as counted, the other as they were sent."""

from functools import lru_cache

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from muster_agent.observe.signs import SlotSigns
from muster_protocol.signals import baseline, features, monitors, summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.signals.summary import Summary
from support import in_time
from support.in_time import NAMES, ROWS, Rows, window

RULE = Rule(settle_seconds=30 * 300.0)
ACTS = ("calm", "shift", "creep", "stuck", "capped", "noise", "silent", "gaps", "wild", "empty")


@lru_cache
def out_of_order() -> Baseline:
    x = in_time.rows(np.random.default_rng(0), 4000)
    return baseline.fit({"x": x}, features.elements("x", NAMES))


def acted(act: str, x: Rows, number: int, rng: np.random.Generator) -> Rows:
    """The window's rows after something happened to them."""
    match act:
        case "shift":
            x[:, 1] += np.float32(0.4)
        case "creep":
            x[:, 0] += np.float32(0.05 * number)
        case "stuck":
            x[:, 2] = 12.3
        case "capped":
            x[:, 0] = np.minimum(x[:, 0], np.float32(91))
        case "noise":
            x[:, 3] += rng.normal(0, 0.5, len(x)).astype(np.float32)
        case "silent":
            x[:, 1] = np.nan
        case "gaps":
            x[rng.random(x.shape) < 0.3] = np.nan
        case "wild":
            x *= np.float32(10) ** rng.integers(-30, 17, x.shape).astype(np.float32)
        case "empty":
            return x[:0]
        case _:
            pass
    return x


def live(trained: Baseline, story: list[tuple[str, int]], seed: int) -> None:
    rng, number = np.random.default_rng(seed), 0
    device, hub = SlotSigns(), monitors.begin(trained, RULE)
    device.watch(trained, RULE)
    for act, windows in story:
        for _ in range(windows):
            number += 1
            summary = window(trained, acted(act, in_time.rows(rng, ROWS), number, rng))
            sent = summary_wire.decode(summary_wire.encode(summary), trained)
            assert isinstance(sent, Summary)
            here, there = device.feed(summary), [*map(published, hub.feed(sent))]
            assert [published(finding) for finding in here] == [some for some in there if some]
            assert device.drifting == hub.drifting()


def published(finding: DriftFinding) -> DriftFinding | None:
    return None if finding.state == "holding" else finding


STORIES = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(1, 12)), max_size=8)


@settings(max_examples=40)
@given(STORIES, st.integers(0, 2**32 - 1))
def test_device_and_hub_find_exactly_the_same_in_any_windows(
    story: list[tuple[str, int]], seed: int
) -> None:
    live(in_time.fitted(), [("calm", 5), *story], seed)


@settings(max_examples=15)
@given(STORIES, st.integers(0, 2**32 - 1))
def test_so_they_do_by_a_baseline_out_of_order(story: list[tuple[str, int]], seed: int) -> None:
    live(out_of_order(), [("calm", 8), *story], seed)
