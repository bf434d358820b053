"""Workers and what is counted of them: what may answer, and that each row counts once."""

from mutants.mutation import Mutation

WORKER = "agent/muster_agent/worker"
OBSERVE = "agent/muster_agent/observe"

MUTATIONS = (
    Mutation(
        name="a worker loads what was not hashed",
        breaks="A model file that rotted after the fetch runs.",
        where=WORKER,
        old="if size != entry.size_bytes or found != entry.sha256:",
        new="if size != entry.size_bytes:",
        tests=(
            "tests/agent/worker/test_startup.py::test_a_file_that_rotted_after_the_fetch_does_not_run",
        ),
    ),
    Mutation(
        name="golden vectors ten times as wide",
        breaks="A model that computes something else on this device serves.",
        where=WORKER,
        old="<= rule.atol + rule.rtol * np.abs(right)",
        new="<= 10 * (rule.atol + rule.rtol * np.abs(right))",
        tests=(
            "tests/agent/worker/test_golden.py::test_one_value_outside_fails_and_none_of_the_models_numbers_is_told",
        ),
    ),
    Mutation(
        name="anything passes for infinity",
        breaks="Where an infinite value is expected a model may answer whatever it likes.",
        where=WORKER,
        old="(near & np.isfinite(right))",
        new="near",
        tests=(
            "tests/agent/worker/test_golden.py::test_where_an_infinite_value_is_expected_only_the_same_passes",
        ),
    ),
    Mutation(
        name="an output of any size is good",
        breaks="An output of another shape than was signed goes out as a good answer.",
        where=WORKER,
        old="if outputs[name].size != (size * rows if batched else size):",
        new="if outputs[name].size < 0:",
        tests=(
            "tests/agent/worker/test_engine.py::test_an_output_of_another_shape_than_declared_is_a_bad_output",
        ),
    ),
    Mutation(
        name="the last good answer never ages",
        breaks="A fallback repeats an answer that is hours old as if it were of now.",
        where=WORKER,
        old="0 <= now - self._last_seconds <= self._ttl_seconds:",
        new="0 <= now - self._last_seconds:",
        tests=(
            "tests/agent/worker/test_fallback_contract.py::test_the_last_good_answer_is_repeated_until_it_is_too_old",
        ),
    ),
    Mutation(
        name="a fallback counts as good",
        breaks="A client can't tell a constant from an inference.",
        where=WORKER,
        old="return Quality.CONSTANT, self._repeated(self._constant, rows)",
        new="return Quality.GOOD, self._repeated(self._constant, rows)",
        tests=(
            "tests/agent/worker/test_engine.py::test_a_constant_answers_every_element_when_the_model_fails",
        ),
    ),
    Mutation(
        name="torn rows are read",
        breaks="Rows that the worker was just overwriting are counted, half of each.",
        where=WORKER,
        old="safe = max(self.published - self.capacity_rows + 1, first)",
        new="safe = first",
        tests=(
            "tests/agent/worker/test_ring.py::test_rows_read_while_another_process_writes_are_whole_and_outlive_its_death",
        ),
    ),
    Mutation(
        name="lost rows are not counted",
        breaks="A ring that went round loses rows and nobody hears of it.",
        where=WORKER,
        old="return ReadResult(rows, last, first - cursor)",
        new="return ReadResult(rows, last, 0)",
        tests=(
            "tests/agent/worker/test_ring.py::test_a_reader_gets_every_row_once_or_hears_that_it_is_lost",
        ),
    ),
    Mutation(
        name="a length beside a transfer encoding",
        breaks="A proxy and the worker read different requests out of the same bytes.",
        where=WORKER,
        old='if "content-length" in headers or minor == b"0":',
        new='if minor == b"0":',
        tests=("tests/agent/worker/test_http1.py::test_what_is_not_a_plain_request_is_refused",),
    ),
    Mutation(
        name="labels are not forgotten",
        breaks="A label that is sent twice counts twice.",
        where=OBSERVE,
        old="return self._answers.pop(identifier, None)",
        new="return self._answers.get(identifier)",
        tests=("tests/agent/observe/test_labels.py::test_an_answer_is_forgotten_with_its_label",),
    ),
    Mutation(
        name="labels before a restart are not forgotten",
        breaks="A label that was counted before a restart counts again after it.",
        where=OBSERVE,
        old="for identifier, _ in self.layout.labels(rows):\n            self._memory.take(identifier)",
        new="for identifier, _ in self.layout.labels(rows):\n            self._memory.take(b'')",
        tests=(
            "tests/agent/observe/test_fold.py::test_labels_that_were_counted_before_a_restart_are_not_counted_again",
        ),
    ),
    Mutation(
        name="the memory of labels grows",
        breaks="A device that never gets a label runs out of memory.",
        where=OBSERVE,
        old="over = len(self._answers) - self._max",
        new="over = 0",
        tests=(
            "tests/agent/observe/test_labels.py::test_the_oldest_answers_go_first_when_there_are_too_many",
        ),
    ),
    Mutation(
        name="repeated answers are no fallbacks",
        breaks="A model that has failed for an hour shows no fallback in its window.",
        where=OBSERVE,
        old="by_quality[[Quality.CONSTANT, Quality.LAST_GOOD, Quality.NO_DECISION]].sum()",
        new="by_quality[[Quality.CONSTANT, Quality.NO_DECISION]].sum()",
        tests=("tests/agent/observe/test_fold.py",),
    ),
    Mutation(
        name="an acknowledgement of another epoch",
        breaks="Rows that the hub never had are forgotten.",
        where=OBSERVE,
        old="if ack.epoch != totals.epoch:",
        new="if not ack.epoch:",
        tests=(
            "tests/agent/observe/test_outbox.py::test_an_acknowledgement_of_another_epoch_changes_nothing",
        ),
    ),
    Mutation(
        name="rows in flight are merged",
        breaks="A row that the hub may have already changes, and counts twice.",
        where=OBSERVE,
        old="WHERE stream = 'summary' AND sequence IS NULL ORDER BY id",
        new="WHERE stream = 'summary' ORDER BY id",
        tests=("tests/agent/observe/test_outbox.py::test_rows_in_flight_are_not_merged",),
    ),
    Mutation(
        name="a restored backup keeps its epoch",
        breaks="New rows bear the numbers of old ones, and the hub leaves them out.",
        where=OBSERVE,
        old="self._table.renew_epoch(ack.stream)",
        new="pass",
        tests=("tests/agent/observe/test_outbox.py::test_a_restored_backup_begins_a_new_epoch",),
    ),
    Mutation(
        name="one acknowledgement forgets a row too many",
        breaks="The row after the last that the hub has is lost.",
        where=OBSERVE,
        old='"DELETE FROM outbox_row WHERE stream = ? AND sequence <= ? "',
        new='"DELETE FROM outbox_row WHERE stream = ? AND sequence <= ? + 1 "',
        tests=(
            "tests/agent/observe/test_outbox.py::test_an_acknowledgement_forgets_the_rows_it_names_and_no_other",
        ),
    ),
    Mutation(
        name="more in flight than the hub expects",
        breaks="A hub restored from a backup skips rows that were not acknowledged yet.",
        where=OBSERVE,
        old="return limits.IN_FLIGHT_ROWS_MAX - len(flying), int(",
        new="return 2 * limits.IN_FLIGHT_ROWS_MAX - len(flying), int(",
        tests=("tests/agent/observe/test_outbox.py::test_at_most_64_rows_are_in_flight",),
    ),
    Mutation(
        name="a window that was not committed is gone",
        breaks="A full disk loses the counts of the window it could not take.",
        where=OBSERVE,
        old="opened.fold.restore(held)",
        new="opened.fold.committed()",
        tests=(
            "tests/agent/observe/test_telemetry.py::test_a_window_that_a_full_disk_does_not_take_is_counted_in_the_next",
        ),
    ),
    Mutation(
        name="cursor and window saved apart",
        breaks="A crash between the two counts rows twice.",
        where=OBSERVE,
        old="opened.recording = msgspec.structs.replace(opened.recording, fold=opened.fold.save())",
        new="opened.recording = msgspec.structs.replace(opened.recording, fold=b'')",
        tests=(
            "tests/agent/observe/test_telemetry.py::test_a_crash_at_any_commit_neither_loses_nor_doubles_a_row",
        ),
    ),
    Mutation(
        name="what was saved goes with its ring",
        breaks="A power cut loses a whole window of counts, and not just the last seconds.",
        where=OBSERVE,
        old="if not recording.fold:",
        new="if True:",
        tests=(
            "tests/agent/observe/test_telemetry.py::test_when_the_power_takes_a_ring_what_was_saved_of_it_is_counted",
        ),
    ),
)
