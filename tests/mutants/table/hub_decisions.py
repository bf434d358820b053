"""What the hub decides: permits, budgets, rollouts, gates, alerts."""

from mutants.mutation import Mutation

ROLLOUTS = "hub/muster_hub/rollouts"

MUTATIONS = (
    Mutation(
        name="settled is through, whatever was settled",
        breaks="A device that still shows its old version as committed frees its place.",
        where=ROLLOUTS,
        old='if update.get("manifest") == leave.manifest and state in THROUGH:',
        new="if state in THROUGH:",
        tests=("tests/hub/rollouts/test_permits.py::test_what_another_slot_came_to_shows_nothing",),
    ),
    Mutation(
        name="the new version is through in any state",
        breaks="A device on probation frees its place, and the next one of its line swaps.",
        where=ROLLOUTS,
        old='if update.get("manifest") == leave.manifest and state in THROUGH:',
        new='if update.get("manifest") == leave.manifest:',
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
        old="lapsed = reported > leave.given_at + 2 * VALID_SECONDS",
        new="lapsed = reported > leave.given_at + VALID_SECONDS",
        tests=(
            "tests/hub/rollouts/test_permits.py::test_leave_that_was_not_used_frees_its_place_once_it_has_surely_lapsed",
        ),
    ),
    Mutation(
        name="an old report shows that it is through",
        breaks="A report from before the permit frees its place.",
        where=ROLLOUTS,
        old="if report is None or reported is None or reported <= leave.given_at:",
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
        name="a device that never commits never fails",
        breaks="A release that hangs on every device is waited for, not stopped.",
        where=ROLLOUTS,
        old="if member.online and spent >= rollout.plan.timeout_seconds and",
        new="if not member.online and spent >= rollout.plan.timeout_seconds and",
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
)
