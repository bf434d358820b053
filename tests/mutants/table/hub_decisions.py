"""What the hub decides: permits, budgets, rollouts, gates, alerts."""

from mutants.mutation import Mutation

ROLLOUTS = "hub/muster_hub/rollouts"
ALERTS = "hub/muster_hub/alerts"

MUTATIONS = (
    Mutation(
        name="settled is through, whatever was settled",
        breaks="A device that still shows its old version as committed frees its place.",
        where=ROLLOUTS,
        old='if update.get("manifest") == permit.manifest and state in THROUGH:',
        new="if state in THROUGH:",
        tests=("tests/hub/rollouts/test_permits.py::test_what_another_slot_came_to_shows_nothing",),
    ),
    Mutation(
        name="the new version is through in any state",
        breaks="A device on probation frees its place, and the next one of its line swaps.",
        where=ROLLOUTS,
        old='if update.get("manifest") == permit.manifest and state in THROUGH:',
        new='if update.get("manifest") == permit.manifest:',
        tests=(
            "tests/hub/rollouts/test_permits.py::test_a_device_in_the_middle_of_its_swap_is_down_however_long_it_takes",
        ),
    ),
    Mutation(
        name="lapsed is through, though swapping",
        breaks="A swap that takes long frees its place while it goes on.",
        where=ROLLOUTS,
        old="return not (lapsed and state not in SWAPPING)",
        new="return not lapsed",
        tests=(
            "tests/hub/rollouts/test_permits.py::test_a_device_in_the_middle_of_its_swap_is_down_however_long_it_takes",
        ),
    ),
    Mutation(
        name="a permit lapses in half its time",
        breaks="A permit's place is given away while its device may still use it.",
        where=ROLLOUTS,
        old=".given_at + 2 * VALID_SECONDS",
        new=".given_at + VALID_SECONDS",
        tests=(
            "tests/hub/rollouts/test_permits.py::test_leave_that_was_not_used_frees_its_place_once_it_has_surely_lapsed",
        ),
    ),
    Mutation(
        name="an old report shows that it is through",
        breaks="A report from before the permit frees its place.",
        where=ROLLOUTS,
        old="if report is None or reported is None or reported <= permit.given_at:",
        new="if report is None or reported is None:",
        tests=(
            "tests/hub/rollouts/test_permits.py::test_a_report_from_before_leave_was_given_shows_nothing",
        ),
    ),
    Mutation(
        name="an answer of another generation",
        breaks="A device swaps by a directive that was replaced meanwhile.",
        where=ROLLOUTS,
        old="if goal is None or (goal.manifest, goal.generation) != (asked.manifest, asked.generation):",
        new="if goal is None or goal.manifest != asked.manifest:",
        tests=(
            "tests/hub/rollouts/test_permits.py::test_a_question_about_another_directive_is_told_to_wait_for_the_newer",
        ),
    ),
    Mutation(
        name="a paused rollout goes on",
        breaks="Pausing a rollout doesn't stop the devices that were asked already.",
        where=ROLLOUTS,
        old="    if goal.held:\n",
        new="    if goal.held and not goal.plan:\n",
        tests=(
            "tests/hub/rollouts/test_permits.py::test_a_paused_rollout_gives_no_leave_and_says_why",
        ),
    ),
    Mutation(
        name="a budget with one place more",
        breaks="Two devices of a line go down where one may.",
        where=ROLLOUTS,
        old="if len(busy) >= most:",
        new="if len(busy) > most:",
        tests=("tests/hub/rollouts/test_budgets.py::test_one_line_has_room_while_another_is_full",),
    ),
    Mutation(
        name="the asking device counts as available",
        breaks="One device fewer than promised stays available.",
        where=ROLLOUTS,
        old="if member.online and member.device not in busy) - 1",
        new="if member.online and member.device not in busy)",
        tests=(
            "tests/hub/rollouts/test_budgets.py::test_devices_that_are_away_count_against_what_must_stay_available",
        ),
    ),
    Mutation(
        name="one failure more than allowed",
        breaks="A release goes on after more failures than its plan allows.",
        where=ROLLOUTS,
        old="if len(failures) > rollout.plan.failures_allowed or",
        new="if len(failures) > rollout.plan.failures_allowed + 1 or",
        tests=(
            "tests/hub/rollouts/test_rollouts.py::test_a_committed_canary_that_goes_back_while_it_soaks_stops_the_rollout",
        ),
    ),
    Mutation(
        name="a device that never commits never fails",
        breaks="A release that hangs on every device is waited for, not stopped.",
        where=ROLLOUTS,
        old="if member.online and idle >= rollout.plan.timeout_seconds and",
        new="if not member.online and idle >= rollout.plan.timeout_seconds and",
        tests=(
            "tests/hub/rollouts/test_rollouts.py::test_a_device_that_flaps_runs_out_of_time_all_the_same",
        ),
    ),
    Mutation(
        name="no soak",
        breaks="A wave passes in the second in which its last device commits.",
        where=ROLLOUTS,
        old="if left_seconds <= 0:",
        new="if left_seconds:",
        tests=(
            "tests/hub/rollouts/test_rollouts.py::test_a_committed_canary_that_goes_back_while_it_soaks_stops_the_rollout",
        ),
    ),
    Mutation(
        name="an earlier wave's verdict opens the gate",
        breaks="What was proved of the canary lets every later wave pass.",
        where=ROLLOUTS,
        old="if judged is None or judged.wave != rollout.wave:",
        new="if judged is None:",
        tests=(
            "tests/hub/rollouts/test_waves.py::test_the_word_of_an_earlier_wave_does_not_open_the_gate_of_this_one",
        ),
    ),
    Mutation(
        name="a gate's stop is only told",
        breaks="A release that the gate found harmful goes on.",
        where=ROLLOUTS,
        old='if rollout.judged is not None and rollout.judged.action == "stop":',
        new='if rollout.judged is not None and rollout.judged.action == "never":',
        tests=(
            "tests/hub/rollouts/test_waves.py::test_a_gate_that_stops_withdraws_the_release_even_while_paused",
        ),
    ),
    Mutation(
        name="a wave begins unapproved",
        breaks="A wave that waits for an operator begins by itself.",
        where=ROLLOUTS,
        old="if stage.approve and rollout.approved < rollout.wave:",
        new="if stage.approve and rollout.approved < -1:",
        tests=(
            "tests/hub/rollouts/test_waves.py::test_approval_before_the_start_holds_a_rollout_without_a_canary_too",
        ),
    ),
    Mutation(
        name="committed, whatever else it says",
        breaks="A device that rolled a version back counts as running it.",
        where=ROLLOUTS,
        old="if running and settled:",
        new="if running or settled:",
        tests=(
            "tests/hub/rollouts/test_evidence.py::test_bytes_written_and_probation_are_not_success",
        ),
    ),
    Mutation(
        name="an old refusal stops a new attempt",
        breaks="A refusal of an earlier attempt, still shown, stops the rollout.",
        where=ROLLOUTS,
        old='if update.get("generation", 0) < generation:',
        new='if update.get("generation", 0) < 0:',
        tests=(
            "tests/hub/rollouts/test_evidence.py::test_a_failure_of_an_earlier_attempt_does_not_count",
        ),
    ),
    Mutation(
        name="a gate twice as nervous",
        breaks="A release that changes nothing is stopped twice as often as was promised.",
        where=ROLLOUTS,
        old="stop_average=log_e >= math.log(2 / chance),",
        new="stop_average=log_e >= math.log(1 / chance),",
        tests=(
            "tests/hub/rollouts/gates/test_gates.py::test_with_few_controls_the_same_evidence_must_be_twice_as_strong",
        ),
    ),
    Mutation(
        name="few controls are enough",
        breaks="With a handful of controls a release is stopped by chance.",
        where="hub/muster_hub/rollouts/gates/judge.py",
        old="if compared.controls < CONTROLS_MIN and not paired:",
        new="if compared.controls < 0 and not paired:",
        tests=(
            "tests/hub/rollouts/gates/test_gates.py::test_with_few_controls_the_same_evidence_must_be_twice_as_strong",
        ),
    ),
    Mutation(
        name="silence is not evidence",
        breaks="A canary that stops to report is taken for a healthy one.",
        where=ROLLOUTS,
        old="if evidence.silent > (1 - REPORTING_MIN) * evidence.canaries:",
        new="if evidence.silent > evidence.canaries:",
        tests=("tests/hub/rollouts/gates/test_gates.py::test_silent_canaries_blind_the_gate",),
    ),
    Mutation(
        name="a small canary advances",
        breaks="Five devices that did well let a release loose on thousands.",
        where=ROLLOUTS,
        old="if evidence.canaries < ADVANCE_DEVICES_MIN:",
        new="if evidence.canaries < 2:",
        tests=(
            "tests/hub/rollouts/gates/test_gates.py::test_a_canary_of_five_says_that_it_cannot_show_a_doubling",
        ),
    ),
    Mutation(
        name="advancing at every look",
        breaks="Looking ninety-six times proves by chance what isn't so.",
        where=ROLLOUTS,
        old="not_worse=at_checkpoint and proved,",
        new="not_worse=proved,",
        tests=(
            "tests/hub/rollouts/gates/test_gates.py::test_what_is_proved_lets_a_rollout_advance_at_those_looks_alone",
        ),
    ),
    Mutation(
        name="outliers at every look",
        breaks="Looking ninety-six times finds outliers by chance where there are none.",
        where=ROLLOUTS,
        old="stop_outliers=at_checkpoint and",
        new="stop_outliers=",
        tests=("tests/hub/rollouts/gates/test_gates.py::test_outliers_stop_at_those_looks_alone",),
    ),
    Mutation(
        name="three of five installs may fail",
        breaks="A release that fails to install goes on until statistics are sure.",
        where=ROLLOUTS,
        old="if first > FIRST_FAILURES_MAX:",
        new="if first > FIRST_FAILURES_MAX + 1:",
        tests=(
            "tests/hub/rollouts/gates/test_gates.py::test_failing_installs_stop_before_anything_else_is_looked_at",
        ),
    ),
    Mutation(
        name="an alert ends at once",
        breaks="A trouble that comes and goes is twenty alerts.",
        where=ALERTS,
        old="elif now - alert.cleared_at >= clear_seconds:",
        new="elif now >= alert.cleared_at:",
        tests=(
            "tests/hub/alerts/test_alerts.py::test_an_alert_resolves_only_after_its_cause_stayed_away",
        ),
    ),
    Mutation(
        name="of two troubles the milder counts",
        breaks="An expired certificate is told as a warning.",
        where=ALERTS,
        old="_RANK[condition.severity] > _RANK[other.severity]",
        new="_RANK[condition.severity] < _RANK[other.severity]",
        tests=(
            "tests/hub/alerts/test_alerts.py::test_a_new_trouble_opens_one_alert_however_often_it_is_seen",
        ),
    ),
    Mutation(
        name="a silence never ends",
        breaks="An alert that was silenced once is never told again.",
        where=ALERTS,
        old="if now >= self.until:",
        new="if now < 0:",
        tests=(
            "tests/hub/alerts/test_notices.py::test_a_silence_holds_back_matching_devices_until_it_ends",
        ),
    ),
    Mutation(
        name="an acknowledged alert escalates",
        breaks="People are woken for what somebody has taken on already.",
        where=ALERTS,
        old='and member.state == "open"\n                and now - member.opened',
        new="and now - member.opened",
        tests=(
            "tests/hub/alerts/test_notices.py::test_what_nobody_acknowledges_is_told_once_more",
        ),
    ),
)
