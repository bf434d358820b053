"""Whatever happens to a release on trial, and in which order, one side that runs is left."""

from hypothesis import given
from hypothesis import strategies as st

from muster_agent.selfupdate import record
from muster_agent.selfupdate.record import STARTS_MAX, AgentTrial, Record
from muster_agent.selfupdate.trial import HEALTHY_SECONDS, TrialWatch

EVENTS = st.lists(st.sampled_from(["start", "too late", "healthy"]), max_size=30)
BEFORE = st.sampled_from([Record(), Record("a", "1.0", 1), Record("b", "1.0", 1)])


def trial_of(before: Record, *, online: bool = False) -> Record:
    return record.put_on_trial(before, AgentTrial(record.idle(before), "2.0", 2, online))


@given(BEFORE, EVENTS)
def test_a_side_stays_in_place_until_another_has_said_that_it_is_healthy(before, events):
    """A start is also what follows a crash, a power cut or a stop: the launcher knows no more."""
    now, running = trial_of(before), before.side
    tried = record.idle(before)
    for event in events:
        if event == "start":
            now, running = record.begin(now)
        elif event == "too late" and now.trial is not None:
            now = record.fault(now, running, now.trial.starts, "not healthy")
        elif event == "healthy":
            now = record.passed(now, running)
        assert now.side in {before.side, tried}
        assert now.side == before.side or now.version == "2.0"
        assert now.trial is None or now.trial.starts <= STARTS_MAX
    for _ in range(STARTS_MAX + 2):
        now, running = record.begin(now)
    assert now.trial is None
    assert running == now.side


@given(BEFORE)
def test_a_release_that_is_never_healthy_is_started_so_often_and_not_again(before):
    now, sides = trial_of(before), []
    for _ in range(STARTS_MAX + 3):
        now, side = record.begin(now)
        sides.append(side)
    assert sides == [record.idle(before)] * STARTS_MAX + [before.side] * 3
    assert now.taken_back is not None
    assert "never healthy" in record.words(now)


def test_a_word_that_comes_too_late_does_not_end_a_trial_that_has_passed():
    now, side = record.begin(trial_of(Record()))
    assert record.fault(record.passed(now, side), side, 1, "late").trial is None
    again, _ = record.begin(now)
    assert record.fault(again, side, 1, "of the start before") == again


def test_a_damaged_record_is_that_of_a_new_device(tmp_path):
    assert record.load(tmp_path) is None
    record.change(tmp_path, trial_of)
    (tmp_path / record.DIRECTORY / record.FILE).write_bytes(b"{")
    assert record.load(tmp_path) == Record()


def on_trial(directory, *, online: bool) -> tuple[TrialWatch, list[str]]:
    heard: list[str] = []
    record.change(directory, lambda _: record.begin(trial_of(Record(), online=online))[0])
    return TrialWatch(directory, "a", heard.append), heard


def test_an_agent_that_serves_and_is_connected_for_a_while_stays_and_says_so(tmp_path):
    watch, heard = on_trial(tmp_path, online=True)
    watch.look(0, connected=True, serving=True)
    watch.look(HEALTHY_SECONDS - 1, connected=True, serving=False)
    watch.look(HEALTHY_SECONDS, connected=True, serving=True)
    assert record.load(tmp_path).trial is not None
    watch.look(2 * HEALTHY_SECONDS, connected=True, serving=True)
    assert record.load(tmp_path) == Record("a", "2.0", 2)
    assert heard == ["agent 2.0 is in place and healthy"]


def test_an_agent_must_connect_where_the_one_before_it_was_connected(tmp_path):
    watch, _ = on_trial(tmp_path, online=True)
    for now in range(0, 1000, 5):
        watch.look(now, connected=False, serving=True)
    assert record.load(tmp_path).trial is not None


def test_an_agent_of_a_device_without_a_link_has_to_serve_only(tmp_path):
    watch, _ = on_trial(tmp_path, online=False)
    watch.look(0, connected=False, serving=True)
    watch.look(HEALTHY_SECONDS, connected=False, serving=True)
    assert record.load(tmp_path).side == "a"


def test_the_hub_hears_once_of_a_release_that_was_taken_back(tmp_path):
    record.change(tmp_path, lambda _: record.take_back(trial_of(Record()), "it crashed"))
    heard: list[str] = []
    for _ in range(2):
        TrialWatch(tmp_path, "factory", heard.append)
    assert heard == ["agent 2.0 was taken back: it crashed"]
