"""What both sides must agree on: what is signed, said and counted."""

from mutants.mutation import Mutation

WIRE = "protocol/muster_protocol/wire"
SIGNALS = "protocol/muster_protocol/signals"

MUTATIONS = (
    Mutation(
        name="a directive for any device",
        breaks="A device does what another one was told.",
        where=WIRE,
        old="if directive.device != device:",
        new="if not directive.device:",
        tests=(
            "tests/protocol/wire/test_directive.py::test_a_device_refuses_a_directive_and_names_why",
        ),
    ),
    Mutation(
        name="a directive of any epoch",
        breaks="A director's key that was withdrawn with its epoch goes on ruling.",
        where=WIRE,
        old="if directive.epoch != epoch:",
        new="if directive.epoch < epoch:",
        tests=(
            "tests/protocol/wire/test_directive.py::test_a_device_refuses_a_directive_and_names_why",
        ),
    ),
    Mutation(
        name="an older directive is taken",
        breaks="A replayed directive brings an old release back.",
        where=WIRE,
        old="if (directive.epoch, directive.generation) < adopted:",
        new="if directive.epoch < adopted[0]:",
        tests=(
            "tests/protocol/wire/test_directive.py::test_a_device_refuses_a_directive_and_names_why",
        ),
    ),
    Mutation(
        name="an expired directive is taken",
        breaks="A directive that was withheld until it expired is followed.",
        where=WIRE,
        old="if now >= directive.expires:",
        new="if now > directive.expires:",
        tests=(
            "tests/protocol/wire/test_directive.py::test_a_device_refuses_a_directive_and_names_why",
        ),
    ),
    Mutation(
        name="the proof without since",
        breaks="A device can't prove since when it has run what it runs.",
        where=WIRE,
        old="run.manifest, run.since, run.inferences",
        new="run.manifest, run.inferences",
        tests=(
            "tests/protocol/wire/test_golden_wire.py::test_a_proof_signs_the_bytes_that_deployed_devices_sign",
        ),
    ),
    Mutation(
        name="the proof without its device",
        breaks="One device's proof passes for another's.",
        where=WIRE,
        old="said = [device, report.at,",
        new='said = ["", report.at,',
        tests=("tests/protocol/wire/test_proof.py::test_a_proof_is_of_one_device",),
    ),
    Mutation(
        name="a proof good for any purpose",
        breaks="What a device signs for its renewal passes for a proof of what it runs.",
        where=WIRE,
        old="return _PURPOSE + msgspec.msgpack.encode(said)",
        new="return msgspec.msgpack.encode(said)",
        tests=(
            "tests/protocol/wire/test_golden_wire.py::test_a_proof_signs_the_bytes_that_deployed_devices_sign",
        ),
    ),
    Mutation(
        name="an index that is too short",
        breaks="A file's index may leave out its end.",
        where=WIRE,
        old="if rest or count < max(least, 1):",
        new="if rest:",
        tests=(
            "tests/protocol/wire/test_chunks.py::test_an_index_that_cannot_describe_its_file_is_refused",
        ),
    ),
    Mutation(
        name="a bundle over its limit",
        breaks="Files that fit one by one fill a device's disk together.",
        where=WIRE,
        old="total = sum(file.size_bytes for file in manifest.files)",
        new="total = max(file.size_bytes for file in manifest.files)",
        tests=(
            "tests/protocol/wire/test_manifest.py::test_files_that_fit_one_by_one_but_not_together_are_refused",
        ),
    ),
    Mutation(
        name="a path that leaves the bundle",
        breaks="A signed manifest writes outside of its own directory.",
        where=WIRE,
        old=r'pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")',
        new=r'pattern=r"^[A-Za-z0-9./][A-Za-z0-9._/-]*\Z")',
        tests=(
            "tests/protocol/wire/test_manifest.py::test_a_bad_manifest_is_refused_by_the_field_at_fault",
        ),
    ),
    Mutation(
        name="a file listed twice",
        breaks="What was hashed under a name isn't what is loaded under it.",
        where=WIRE,
        old='_unique(paths, f"{where}: file")',
        new="len(paths)",
        tests=("tests/protocol/wire/test_manifest.py::test_whatever_is_listed_twice_is_refused",),
    ),
    Mutation(
        name="a device's name reaches another topic",
        breaks="A device writes where another one is heard.",
        where=WIRE,
        old="if not _DEVICE.fullmatch(device):",
        new="if not _DEVICE.match(device):",
        tests=(
            "tests/protocol/wire/test_topics.py::test_a_device_id_that_could_reach_another_topic_is_refused",
        ),
    ),
    Mutation(
        name="notin without the label",
        breaks="A selector leaves out the devices that lack its label.",
        where=WIRE,
        old="return labels.get(self.key) not in self.values",
        new="return labels.get(self.key, *self.values[:1]) not in self.values",
        tests=(
            "tests/protocol/wire/test_selectors.py::test_a_selector_holds_for_a_device_it_describes",
        ),
    ),
    Mutation(
        name="a selector of any part",
        breaks="A rollout reaches every device for which one of its conditions holds.",
        where=WIRE,
        old="return all(part.matches(labels) for part in self.parts)",
        new="return any(part.matches(labels) for part in self.parts)",
        tests=(
            "tests/protocol/wire/test_selectors.py::test_a_selector_does_not_hold_for_another_device",
        ),
    ),
    Mutation(
        name="a maintenance window a minute longer",
        breaks="A device swaps in the first minute after its window has closed.",
        where=WIRE,
        old="if today in window.days and start <= minute < end:",
        new="if today in window.days and start <= minute <= end:",
        tests=(
            "tests/agent/update/test_swap_permit.py::test_a_window_is_open_by_the_clock_on_the_devices_wall",
        ),
    ),
    Mutation(
        name="a night's window on the wrong morning",
        breaks="A window of Monday night is open on Monday's early morning.",
        where=WIRE,
        old="yesterday in window.days and minute < end",
        new="today in window.days and minute < end",
        tests=(
            "tests/agent/update/test_swap_permit.py::test_a_window_is_open_by_the_clock_on_the_devices_wall",
        ),
    ),
    Mutation(
        name="recovery after seven windows",
        breaks="Drift ends a window later than the guide says.",
        where=SIGNALS,
        old="clear_windows: int = 6",
        new="clear_windows: int = 7",
        tests=(
            "tests/protocol/signals/test_drift.py::test_drift_ends_after_six_windows_without_a_finding",
        ),
    ),
    Mutation(
        name="recovery counted one too far",
        breaks="Drift ends a window later than the guide says.",
        where=SIGNALS,
        old="np.flatnonzero(quiet >= self.rule.clear_windows)",
        new="np.flatnonzero(quiet > self.rule.clear_windows)",
        tests=(
            "tests/protocol/signals/test_drift.py::test_drift_ends_after_six_windows_without_a_finding",
        ),
    ),
    Mutation(
        name="drift of half a day is normal",
        breaks="A feature that drifted for most of its first day is learned as normal.",
        where=SIGNALS,
        old="self._any(effect >= self.rule.effect) | self._any(drifted >= DRIFTED_SHARE_MAX)",
        new="self._any(effect >= self.rule.effect)",
        tests=(
            "tests/protocol/signals/test_drift.py::test_a_feature_that_drifted_half_of_its_first_day_has_no_normal_yet",
        ),
    ),
    Mutation(
        name="dirt at installation is normal",
        breaks="What was wrong on the day of installation is never found.",
        where=SIGNALS,
        old="self._any(effect >= self.rule.effect) | self._any(drifted >= DRIFTED_SHARE_MAX)",
        new="self._any(drifted >= DRIFTED_SHARE_MAX)",
        tests=(
            "tests/protocol/signals/test_drift.py::test_what_is_a_little_off_at_installation_is_not_learned_as_normal",
        ),
    ),
    Mutation(
        name="no gate on effects",
        breaks="Every shift that is certain alarms, however small it is.",
        where=SIGNALS,
        old="matters = effect >= self._gate()",
        new="matters = effect >= 0 * self._gate()",
        tests=(
            "tests/protocol/signals/test_drift.py::test_a_shift_that_does_not_matter_is_no_drift_however_certain",
        ),
    ),
    Mutation(
        name="falling spreads by their logarithm",
        breaks="With few rows a window, many features raise false alerts of narrower spreads.",
        where=SIGNALS,
        old="return np.where(spreads & (off < 0), fallen, off)",
        new="return np.where(spreads & (off > 0), fallen, off)",
        tests=(
            "tests/protocol/signals/test_spreads.py::test_however_few_rows_no_spread_is_far_off_more_often_than_a_normal_number",
        ),
    ),
    Mutation(
        name="each false alert paid for twice",
        breaks="Twice as many false alerts come as the operator said are acceptable.",
        where=SIGNALS,
        old="return self._chance(1.0)",
        new="return self._chance(RUN_WINDOWS)",
        tests=(
            "tests/protocol/signals/test_learning.py::test_the_budget_counts_alerts_and_a_running_mean_makes_one_of_two_windows",
        ),
    ),
    Mutation(
        name="summaries of two versions merge",
        breaks="What one version saw is told of another.",
        where=SIGNALS,
        old="if first.manifest != second.manifest:",
        new="if not first.manifest:",
        tests=(
            "tests/protocol/signals/test_summary.py::test_summaries_of_different_manifests_are_not_merged",
        ),
    ),
    Mutation(
        name="a whole number of any size",
        breaks="One device's count overflows a column, and the batch of all devices with it.",
        where="protocol/muster_protocol/wire",
        old="case int() if abs(value) > limits.INTEGER_MAX:",
        new="case int() if value > limits.INTEGER_MAX:",
        tests=(
            "tests/protocol/wire/test_bounds.py::test_what_has_no_schema_is_held_to_the_same_bounds",
        ),
    ),
    Mutation(
        name="a number that is none",
        breaks="One device's NaN makes the sums of a whole fleet NaN.",
        where="protocol/muster_protocol/wire",
        old="case float() if not (math.isfinite(value) and abs(value) <= limits.NUMBER_MAX):",
        new="case float() if abs(value) > limits.NUMBER_MAX:",
        tests=(
            "tests/protocol/wire/test_bounds.py::test_what_has_no_schema_is_held_to_the_same_bounds",
        ),
    ),
    Mutation(
        name="text that deceives",
        breaks="A device's name is shown backwards, or steers an operator's terminal.",
        where="protocol/muster_protocol/wire",
        old="return _FORBIDDEN.sub(REPLACEMENT, text)",
        new="return text",
        tests=("tests/protocol/wire/test_bounds.py::test_a_device_sends_its_texts_clean",),
    ),
    Mutation(
        name="values within values without end",
        breaks="A message nested deep enough ends the hub's thread.",
        where="protocol/muster_protocol/wire",
        old="if depth > limits.NESTING_MAX:",
        new="if depth > 100 * limits.NESTING_MAX:",
        tests=("tests/protocol/wire/test_bounds.py::test_values_within_values_end_somewhere",),
    ),
)
