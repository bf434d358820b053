"""A release in shadow on real agents: a good one goes on, a bad one never answers anybody."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chaos.ground import Ground, finish
from muster_hub.demo import digits

SHADOW = {"devices": 2, "min_seconds": 2.0, "compared_min": 60, "disagreed_max": 0.2}
PLAN = {"canary": 1, "min_soak_seconds": 0, "window_seconds": 1.0, "shadow": SHADOW}

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(400)]


def test_a_shadow_by_real_agents_lets_a_good_release_pass_and_stops_a_bad_one(tmp_path: Path):
    with ExitStack() as stack:
        ground = Ground(tmp_path, 2, 5, stack)
        data = ground.release(tmp_path / "first")
        ground.push(tmp_path / "good", "2", digits.train(data, seed=1), data)
        wrong = replace(data, train_labels=np.roll(data.train_labels, 1))
        ground.push(tmp_path / "bad", "3", digits.train(wrong, seed=2), wrong)
        feeders = ground.feed(data, seed=100)

        good = ground.roll_out("2", **PLAN)
        ground.wait("it completes", lambda: ground.get(f"/rollouts/{good}", "ended") is True)
        view = ground.api.get(f"/rollouts/{good}")
        assert view["state"] == "completed", view["reason"]
        compared = [device["compared"] for device in view["shadow"]["devices"]]
        assert sum(compared) >= 60, view["shadow"]
        assert all(compared), view["shadow"]
        assert any("Shadow passed" in step["reason"] for step in view["history"])

        bad = ground.roll_out("3", **PLAN)
        ground.wait("it is stopped", lambda: ground.get(f"/rollouts/{bad}", "ended") is True)
        view = ground.api.get(f"/rollouts/{bad}")
        assert view["state"] == "stopped"
        assert "Stopped in shadow, before any device ran it" in view["reason"]
        assert "answers differ" in view["reason"]

        fed = finish(feeders)
        for name, tally in fed.items():
            assert tally.failed == 0, (name, tally.failures)
            assert tally.versions == ["1", "2"], "the bad release answered somebody"
