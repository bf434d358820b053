"""Which TUF files a device follows, and when it stops waiting for more."""

from hypothesis import given
from hypothesis import strategies as st

from muster_agent.trust.mirror import (
    ABSENT_SECONDS,
    MODELS_MAX,
    ROOT_ROTATIONS_MAX,
    UNCONFIRMED_SECONDS,
    TrustMirror,
)
from muster_protocol.wire import limits, topics
from support.tuf_repository import Repository

VERSIONS = {"root": 1}
DIGITS = frozenset({"digits"})
REPOSITORY = Repository()
REPOSITORY.release("digits", "1.0.0")
FILES = dict(REPOSITORY.files)


def deliver(mirror: TrustMirror, files: dict[str, bytes], now: float) -> None:
    while fresh := (mirror.wanted() & files.keys()) - mirror.files.keys():
        for file in fresh:
            mirror.put(file, files[file], now)


def test_it_asks_for_the_timestamp_and_the_next_root_first() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    assert mirror.wanted() == {"timestamp.json", "2.root.json"}
    assert not mirror.due(1000.0)


def test_it_follows_timestamp_to_snapshot_to_the_roles_of_its_own_models() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    mirror.put("timestamp.json", FILES["timestamp.json"], 0.0)
    assert "2.snapshot.json" in mirror.wanted()
    mirror.put("2.snapshot.json", FILES["2.snapshot.json"], 0.0)
    assert mirror.wanted() == {
        "timestamp.json", "2.root.json", "2.snapshot.json", "1.targets.json",
        "2.model-digits.json",
    }  # fmt: skip


def test_a_next_root_counts_as_absent_only_after_silence() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    deliver(mirror, FILES, 0.0)
    assert not mirror.due(ABSENT_SECONDS - 0.01)
    assert mirror.next_check(1.0) == ABSENT_SECONDS - 1.0
    assert mirror.due(ABSENT_SECONDS)


def test_news_on_a_quiet_link_is_due_at_once() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    deliver(mirror, FILES, 0.0)
    versions = {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "model-digits": 2}
    mirror.refreshed(versions, 5.0)
    assert not mirror.due(1000.0)
    assert mirror.next_check(1000.0) is None
    assert mirror.wanted() == {"timestamp.json", "2.root.json"}
    newer = Repository()
    newer.release("digits", "1.0.0")
    newer.release("digits", "1.0.1")
    mirror.put("timestamp.json", newer.files["timestamp.json"], 1000.0)
    deliver(mirror, newer.files, 1000.0)
    assert mirror.due(1000.0)


def test_a_link_made_anew_may_bring_what_was_silent_before() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    mirror.link_up(100.0)
    deliver(mirror, FILES, 100.0)
    assert not mirror.due(100.0)
    assert mirror.due(100.0 + ABSENT_SECONDS)


def test_each_root_that_comes_is_followed_by_asking_for_the_next() -> None:
    mirror = TrustMirror(VERSIONS, now=0.0)
    for version in range(2, 5):
        mirror.put(f"{version}.root.json", b"{}", 0.0)
    assert {"2.root.json", "5.root.json"} <= mirror.wanted()
    endless = {f"{version}.root.json": b"{}" for version in range(1, 500)}
    deliver(mirror, endless, 0.0)
    assert len(mirror.wanted()) <= ROOT_ROTATIONS_MAX + 1


def test_a_file_that_never_comes_does_not_hold_up_the_cycle_for_ever() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    deliver(mirror, {name: FILES[name] for name in ("timestamp.json", "2.snapshot.json")}, 0.0)
    assert mirror.due(ABSENT_SECONDS)


def test_a_new_model_needs_its_role_and_a_cycle() -> None:
    mirror = TrustMirror(VERSIONS, now=0.0)
    deliver(mirror, FILES, 0.0)
    mirror.refreshed({"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1}, 0.0)
    assert "2.snapshot.json" not in mirror.wanted()
    mirror.follow(DIGITS, 10.0)
    assert not mirror.due(10.0)
    deliver(mirror, FILES, 10.0)
    assert "2.model-digits.json" in mirror.files
    assert mirror.due(10.0)


def test_an_endless_file_is_kept_no_longer_than_it_takes_to_refuse_it() -> None:
    mirror = TrustMirror(VERSIONS, now=0.0)
    mirror.put("timestamp.json", bytes(50 * limits.MIB), 0.0)
    assert len(mirror.files["timestamp.json"]) == limits.TUF_METADATA_BYTES_MAX + 1


def test_files_nobody_asked_for_are_not_kept() -> None:
    mirror = TrustMirror(VERSIONS, now=0.0)
    mirror.put("7.targets.json", b"{}", 0.0)
    assert not mirror.files


@given(st.lists(st.tuples(st.sampled_from(sorted(FILES)), st.binary(max_size=300))))
def test_no_message_makes_it_ask_for_impossible_names_or_without_bound(
    messages: list[tuple[str, bytes]],
) -> None:
    many = frozenset(f"model{number}" for number in range(200))
    mirror = TrustMirror(VERSIONS, many, now=0.0)
    for file, data in [*FILES.items(), *messages]:
        mirror.put(file, data, 0.0)
        assert len(mirror.wanted()) <= MODELS_MAX + ROOT_ROTATIONS_MAX + 4
        for name in mirror.wanted():
            assert topics.tuf(name)


def test_silence_of_a_slow_broker_counts_from_when_it_has_taken_the_question() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    mirror.asked(mirror.wanted())
    mirror.put("timestamp.json", b"{}", 1.0)
    assert mirror.coming
    assert not mirror.due(10 * ABSENT_SECONDS)
    mirror.confirmed(mirror.wanted(), 40.0)
    assert not mirror.coming
    assert not mirror.due(40.0)
    assert mirror.due(40.0 + ABSENT_SECONDS)


def test_a_broker_that_never_confirms_is_not_waited_for_without_end() -> None:
    mirror = TrustMirror(VERSIONS, DIGITS, now=0.0)
    mirror.asked(mirror.wanted())
    mirror.put("timestamp.json", b"{}", 1.0)
    assert mirror.due(UNCONFIRMED_SECONDS)
