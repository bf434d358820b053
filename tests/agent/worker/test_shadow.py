"""A challenger replays what the champion recorded, within its share of a core."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.isolation.cage import available
from muster_agent.observe.pair_fold import PairFold
from muster_agent.worker import events, startup
from muster_agent.worker.bundle import OpenBundle, StartRefused
from muster_agent.worker.control import Shadow
from muster_agent.worker.ring import Ring, RingLayout
from muster_agent.worker.rows import RowKind
from muster_agent.worker.shadow import CpuBudget, Replay
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.messages import Stamp
from support.models import write_bundle
from support.workers import Client, Workers, infer_body

STAMP = Stamp(b"boot", 1.0, 100.0, "synchronised")
PLENTY = 1000.0


class Pair:
    """A champion's engine with its ring, and a challenger's bundle and ring."""

    def __init__(self, directory, **challenger):
        self.directories = [directory / name for name in ("champion", "challenger")]
        for both in self.directories:
            both.mkdir()
        self.champion, self.champion_sha = write_bundle(self.directories[0], runtimes=("onnx",))
        made = write_bundle(
            self.directories[1], runtimes=("onnx",), **{"version": "2", "seed": 8} | challenger
        )
        self.challenger, self.challenger_sha = made
        layout = RingLayout.of(self.champion, self.champion_sha)
        self.ring_path = directory / "champion.ring"
        self.ring = Ring.create(self.ring_path, layout, 64)
        self.engine = startup.open_engine(self.directories[0], ring=self.ring)
        pairs = RingLayout.pairs(layout, self.challenger, self.challenger_sha)
        self.pairs_path = directory / "pairs.ring"
        self.pairs = Ring.create(self.pairs_path, pairs, 4096)

    def replay(self):
        with OpenBundle(self.directories[1], self.challenger, self.challenger.builds[0]) as files:
            model, _ = startup.prove(files)
        return Replay(self.challenger, model, self.ring, self.pairs)

    def fold(self):
        return PairFold(
            (self.champion, self.champion_sha), (self.challenger, self.challenger_sha), STAMP
        )


@pytest.fixture
def pair(tmp_path):
    return lambda **challenger: Pair(tmp_path, **challenger)


def rich():
    return CpuBudget(PLENTY, now=time.monotonic(), used=time.process_time())


def test_both_answers_to_each_input_are_recorded_and_labels_pass_through(pair):
    both = pair()
    replay = both.replay()
    x = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    answers = [
        both.engine.infer({"x": row[None]}, identifier=f"i{n}").outputs["probabilities"]
        for n, row in enumerate(x)
    ]
    both.engine.label("i2", "1")
    replay.step(rich())
    read = both.pairs.read().rows
    assert [int(row["kind"]) for row in read] == [RowKind.INFERENCE] * 6 + [RowKind.LABEL]
    recorded = both.pairs.layout.input_arrays(read[:6])["probabilities"]
    np.testing.assert_array_equal(recorded, np.concatenate(answers))
    expected = startup.open_engine(both.directories[1]).infer({"x": x}).outputs["probabilities"]
    own = both.pairs.layout.output_arrays(read[:6])["probabilities"]
    np.testing.assert_allclose(own, expected, rtol=1e-5)
    fold = both.fold()
    fold.feed(read)
    counts = fold.close(STAMP)[0].counts
    different = int((expected.argmax(1) != np.concatenate(answers).argmax(1)).sum())
    assert (counts.compared, counts.disagreed, counts.compared_labelled) == (6, different, 1)


def test_what_was_recorded_before_the_challenger_was_ready_is_not_replayed(pair):
    both = pair()
    both.engine.infer({"x": np.zeros((1, 4), np.float32)})
    replay = both.replay()
    replay.step(rich())
    assert both.pairs.published == 0


def test_requests_that_the_champion_did_not_answer_are_not_compared(pair):
    both = pair()
    replay = both.replay()
    both.engine.refuse("broken")
    replay.step(rich())
    assert both.pairs.published == replay.compared == 0


def test_without_processor_time_inputs_are_passed_over_and_labels_are_not(pair):
    both = pair()
    replay = both.replay()
    both.engine.infer({"x": np.zeros((1, 4), np.float32)}, identifier="a")
    both.engine.label("a", "1")
    poor = CpuBudget(1e-9, now=time.monotonic(), used=time.process_time() - 10.0)
    assert replay.step(poor) > 0
    assert [int(row["kind"]) for row in both.pairs.read().rows] == [RowKind.LABEL]


def test_a_challenger_that_falls_behind_a_full_ring_goes_on_with_the_newest_rows(pair):
    both = pair()
    replay = both.replay()
    for _ in range(200):
        both.engine.infer({"x": np.ones((1, 4), np.float32)})
    for _ in range(4):
        replay.step(rich())
    assert 0 < replay.compared < 64


def test_a_challenger_with_other_inputs_than_the_champions_is_refused(pair):
    both = pair(inputs=5)
    with pytest.raises(
        StartRefused, match=r"the challenger takes 'x'.*nothing to compare"
    ) as found:
        both.replay()
    assert found.value.refusal is Refusal.MALFORMED


@given(
    share=st.floats(0.01, 1.0),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.5)), max_size=60),
)
def test_over_any_time_a_challenger_takes_its_share_and_one_task_more_at_most(share, steps):
    budget, now, used, most = CpuBudget(share, now=0.0, used=0.0), 0.0, 0.0, 0.0
    for idle, task in steps:
        now += idle
        pause = budget.pause(now, used)
        assert pause >= 0
        if pause == 0:
            used += min(task, idle + task)
            now += task
            most = max(most, task)
    assert used <= share * (now + 1.0) + most + 1e-6


@pytest.mark.system
def test_a_challengers_process_compares_while_the_champion_serves_and_answers_nobody(tmp_path):
    both = Pair(tmp_path)
    with Workers(tmp_path) as workers:
        champion = workers.start(both.directories[0], both.champion, both.champion_sha)
        workers.wait(champion, events.Ready)
        champion.accept()
        challenger = workers.start(
            both.directories[1], both.challenger, both.challenger_sha, sockets=None,
            ring=both.pairs_path, shadow=Shadow(str(champion.spec.ring), cpu_share=1.0),
        )  # fmt: skip
        ready = workers.wait(challenger, events.Ready)
        assert ready.facts.golden_cases == 5
        assert ready.facts.isolation == available(), "a challenger is a model like any other"
        challenger.accept()
        with Client(tmp_path / "slot.sock") as client:
            for number in range(20):
                status, _ = client.call(
                    "POST", "/v2/models/dense/infer", infer_body([number / 10] * 4, f"i{number}")
                )
                assert status == 200
        while (beat := workers.wait(challenger, events.Heartbeat).counters).inferences < 20:
            pass
        assert (beat.inferences, beat.errors, beat.connections) == (20, 0, 0)
        challenger.stop(5.0)
        assert workers.wait(challenger, events.Exited).returncode == 0
    fold = both.fold()
    fold.feed(both.pairs.read().rows)
    assert fold.close(STAMP)[0].counts.compared == 20
