"""Updates on a device: what may start, serve and stay, and what a disk must hold of it."""

from mutants.mutation import Mutation

UPDATE = "agent/muster_agent/update"
STORAGE = "agent/muster_agent/storage"

MUTATIONS = (
    Mutation(
        name="staged version not judged again",
        breaks="A version retired while it waits behind a hold starts when the hold is lifted.",
        where=UPDATE,
        old="verdict = self._verdict() if self.state is State.STARTING else None",
        new="verdict = None",
        tests=(
            "tests/agent/update/test_signed_until_it_serves.py::test_a_version_retired_while_it_waits_behind_a_hold_never_starts",
        ),
    ),
    Mutation(
        name="ready version not judged again",
        breaks="A version retired while it is ready and the machine forbids the swap serves.",
        where=UPDATE,
        old="verdict = self._verdict() if asked else None",
        new="verdict = None",
        tests=(
            "tests/agent/update/test_signed_until_it_serves.py::test_a_version_retired_while_it_is_ready_and_the_machine_forbids_never_serves",
        ),
    ),
    Mutation(
        name="machine not asked before serving",
        breaks="A candidate takes over although the machine began to forbid it while it started.",
        where=UPDATE,
        old="not asked or self._hold.may_serve(now):",
        new="not asked or now:",
        tests=(
            "tests/agent/update/test_signed_until_it_serves.py::test_a_version_retired_while_it_is_ready_and_the_machine_forbids_never_serves",
        ),
    ),
    Mutation(
        name="no checkpoint after a commit",
        breaks="A reader of the database file alone boots the version before the committed one.",
        where=UPDATE,
        old="self._ports.database.checkpoint()\n        self._ports.links.point(self.slot, goal",
        new="self._ports.links.point(self.slot, goal",
        tests=(
            "tests/agent/update/test_commit.py::test_the_database_file_alone_names_what_was_committed",
        ),
    ),
    Mutation(
        name="no checkpoint after a demotion",
        breaks="A reader of the database file alone boots the version that was given up.",
        where=UPDATE,
        old="self._ports.database.checkpoint()\n        self._ports.links.point(workers.slot",
        new="self._ports.links.point(workers.slot",
        tests=(
            "tests/agent/update/test_commit.py::test_the_database_file_alone_names_what_a_late_demotion_went_back_to",
        ),
    ),
    Mutation(
        name="a repair forgets the version before",
        breaks="After a repair a crash loop goes back to the version that crashes.",
        where=UPDATE,
        old="pointer.previous if repaired else pointer.goal)",
        new="pointer.goal)",
        tests=(
            "tests/agent/update/test_commit.py::test_a_version_that_was_repaired_still_gives_way_to_the_one_before_it",
        ),
    ),
    Mutation(
        name="a repair sweeps the version before",
        breaks="After a repair a crash loop has nothing to go back to.",
        where=UPDATE,
        old="spare = pointer.previous if at_it else None",
        new="spare = None",
        tests=(
            "tests/agent/update/test_commit.py::test_a_version_that_was_repaired_still_gives_way_to_the_one_before_it",
        ),
    ),
    Mutation(
        name="permit counted from its answer",
        breaks="A permit that was long on its way is used after the hub has given its place away.",
        where=UPDATE,
        old="asking.until = asking.asked_at + grant.valid_seconds",
        new="asking.until = now + grant.valid_seconds",
        tests=(
            "tests/agent/update/test_permit.py::test_a_permit_is_good_for_its_seconds_counted_from_the_asking_however_late_the_answer",
        ),
    ),
    Mutation(
        name="permit good for any version",
        breaks="A permit asked for one version lets another one swap.",
        where=UPDATE,
        old="if asking.manifest == goal.manifest and now < asking.until:",
        new="if now < asking.until:",
        tests=(
            "tests/agent/update/test_permit.py::test_a_permit_counts_for_the_version_it_was_asked_for",
        ),
    ),
    Mutation(
        name="any nonce is an answer",
        breaks="The answer to an older question, or a replayed one, lets a device swap.",
        where=UPDATE,
        old="(grant.nonce, grant.slot) != (request.nonce, request.slot)",
        new="grant.slot != request.slot",
        tests=("tests/agent/update/test_permit.py::test_an_answer_to_another_question_is_none",),
    ),
    Mutation(
        name="probation's error bound doubled",
        breaks="A version that fails twice as often as its manifest allows is committed.",
        where=UPDATE,
        old="if rate > self._bounds.error_rate_max:",
        new="if rate > 2 * self._bounds.error_rate_max:",
        tests=(
            "tests/agent/update/test_probation.py::test_the_promised_error_rate_is_the_bound_itself",
        ),
    ),
    Mutation(
        name="errors before a restart forgotten",
        breaks="A restart in probation wipes the errors that were counted before it.",
        where=UPDATE,
        old="before.errors + counts.errors,",
        new="counts.errors,",
        tests=(
            "tests/agent/update/test_probation.py::test_what_was_counted_before_a_restart_counts_on",
        ),
    ),
    Mutation(
        name="latency bound doubled",
        breaks="A version six times slower than the one before is committed.",
        where=UPDATE,
        old="if ratio <= self._bounds.latency_ratio_max or",
        new="if ratio <= 2 * self._bounds.latency_ratio_max or",
        tests=(
            "tests/agent/update/test_probation.py::test_a_candidate_is_too_slow_by_a_ratio_that_is_more_than_noise",
        ),
    ),
    Mutation(
        name="probation without time",
        breaks="A version is committed as soon as it has answered enough requests.",
        where=UPDATE,
        old="return self._since + max(self._bounds.seconds - self._before.seconds, 0.0)",
        new="return self._since",
        tests=(
            "tests/agent/update/test_probation.py::test_what_was_counted_before_a_restart_counts_on",
        ),
    ),
    Mutation(
        name="restarts without bound",
        breaks="A version that takes the device down at its start is started again for ever.",
        where=UPDATE,
        old="return before + 1 if before < JOURNAL_RESUMES_MAX else None",
        new="return before + 1",
        tests=(
            "tests/agent/update/test_update_table.py::test_restarts_without_progress_are_bounded_where_they_could_loop",
        ),
    ),
    Mutation(
        name="a restart is not written down",
        breaks="The bound on restarts never bites, for each one is forgotten with its power.",
        where=UPDATE,
        old="self._persist(journal.resumed(row, self.state, count))",
        new="self.row = journal.resumed(row, self.state, count)",
        tests=(
            "tests/agent/update/test_update_crash.py::test_a_candidate_that_takes_the_whole_device_down_is_given_up",
        ),
    ),
    Mutation(
        name="a fault in probation is not rolled back",
        breaks="The journal calls a version failed while it still serves.",
        where=UPDATE,
        old="C.PASSED: S.COMMITTED, C.FAULT: S.ROLLING_BACK}",
        new="C.PASSED: S.COMMITTED, C.FAULT: S.FAILED}",
        tests=(
            "tests/agent/update/test_update_table.py::test_once_swapped_every_fault_and_every_new_goal_goes_through_the_rollback",
        ),
    ),
    Mutation(
        name="crash loop counts what is not the model's",
        breaks="Want of memory, or a missing runtime, takes a good version back.",
        where=UPDATE,
        old="or refusal not in _ITS_OWN or failures < CRASHES:",
        new="or failures < CRASHES:",
        tests=(
            "tests/agent/update/test_demotion.py::test_only_what_the_model_itself_does_makes_a_crash_loop",
        ),
    ),
    Mutation(
        name="one bad window demotes",
        breaks="A single bad window takes a committed version back.",
        where=UPDATE,
        old="if len(self._bad) < 2:",
        new="if len(self._bad) < 1:",
        tests=(
            "tests/agent/update/test_demotion.py::test_error_rates_are_judged_over_two_windows_and_a_new_worker_counts_anew",
        ),
    ),
    Mutation(
        name="demotion to what was retired",
        breaks="A crash loop brings a version back that release keys have withdrawn.",
        where=UPDATE,
        old="if verdict is not None and verdict[0] is Refusal.UNSIGNED_MANIFEST:",
        new="if verdict is not None and verdict[0] is Refusal.NO_SPACE:",
        tests=(
            "tests/agent/update/test_demotion.py::test_what_is_no_longer_in_the_catalogue_does_not_come_back",
        ),
    ),
    Mutation(
        name="interlock not asked",
        breaks="A model is swapped while the machine is in its cycle.",
        where=UPDATE,
        old="if reason := self._inputs.hold(slot) or self._inputs.interlock(slot):",
        new="if reason := self._inputs.hold(slot):",
        tests=(
            "tests/agent/update/test_swap_permit.py::test_a_permit_lapses_on_the_monotonic_clock_from_the_moment_it_was_asked_for",
        ),
    ),
    Mutation(
        name="a silent interlock permits",
        breaks="An interlock that says nothing, because it broke, lets a model be swapped.",
        where=UPDATE,
        old="if answer.strip() == PERMITTED:",
        new="if answer.strip() in (PERMITTED, b''):",
        tests=(
            "tests/agent/update/test_swap_permit.py::test_an_interlock_file_permits_only_when_it_says_one",
        ),
    ),
    Mutation(
        name="window without a clock",
        breaks="A device that does not know the time swaps as if it did.",
        where=UPDATE,
        old='if self._clock.quality() != "synchronised":',
        new='if self._clock.quality() == "floor":',
        tests=(
            "tests/agent/update/test_swap_permit.py::test_a_device_that_does_not_know_the_time_is_in_no_maintenance_window",
        ),
    ),
    Mutation(
        name="manifest of another version",
        breaks="The signed manifest of one version is installed under the name of another.",
        where=UPDATE,
        old="if (listing.model, listing.version) != (goal.model, goal.version):",
        new="if listing.model != goal.model:",
        tests=(
            "tests/attacks/test_hostile_bytes.py::test_the_signed_manifest_of_one_version_under_the_name_of_another_is_refused",
        ),
    ),
    Mutation(
        name="both models answer",
        breaks="A champion that comes back answers beside the candidate on probation.",
        where=UPDATE,
        old="if self.candidate is None or not self.candidate.accepting:",
        new="if self.champion.ready:",
        tests=(
            "tests/agent/update/test_one_model_answers.py::test_a_champion_that_dies_and_comes_back_during_a_probation_answers_nobody",
        ),
    ),
    Mutation(
        name="moved inputs are the candidate's fault",
        breaks="A good version is rolled back because what it is asked moved, for both models.",
        where="agent/muster_agent/observe",
        old="limit = max(EFFECT, FACTOR * max(before))",
        new="limit = EFFECT",
        tests=(
            "tests/agent/update/test_probation_outputs.py::test_a_version_that_answers_as_the_one_before_is_committed",
        ),
    ),
    Mutation(
        name="answers that moved are committed",
        breaks="A version that answers otherwise than its training promised is committed.",
        where=UPDATE,
        old="return (Refusal.PROBATION_OUTPUTS, evidence) if evidence else None",
        new="return None",
        tests=(
            "tests/agent/update/test_probation_outputs.py::test_a_version_whose_answers_moved_is_rolled_back_with_the_evidence",
        ),
    ),
    Mutation(
        name="a swap before the disk is asked",
        breaks="An update begins that the disk has no room to finish.",
        where=STORAGE,
        old="if free - need_bytes < self._free_bytes_min:",
        new="if free < self._free_bytes_min:",
        tests=(
            "tests/agent/storage/test_store.py::test_an_update_that_would_fill_the_disk_is_refused_before_a_byte_comes",
        ),
    ),
    Mutation(
        name="a file's hash not compared",
        breaks="Chunks that are as signed, put together wrongly, become a bundle.",
        where=STORAGE,
        old="if size != listed.size_bytes or whole.hexdigest() != listed.sha256:",
        new="if size != listed.size_bytes:",
        tests=(
            "tests/agent/storage/test_store.py::test_chunks_as_signed_that_make_another_file_are_refused",
        ),
    ),
    Mutation(
        name="a rotten chunk is used",
        breaks="What rotted on the disk since it was fetched goes into a bundle.",
        where=STORAGE,
        old="if chunks.sha256_hex(data) == digest:\n            return data\n        path.unlink()",
        new="if data:\n            return data\n        path.unlink()",
        tests=(
            "tests/agent/storage/test_store.py::test_a_chunk_that_rots_on_the_disk_is_found_and_asked_for_again",
        ),
    ),
    Mutation(
        name="a file takes its name unsynced",
        breaks="A power cut leaves an empty file under the name of a finished one.",
        where=STORAGE,
        old="os.fsync(self._descriptor)",
        new="pass",
        tests=(
            "tests/agent/storage/test_files.py::test_a_file_is_synced_before_it_takes_its_name_and_the_name_after",
        ),
    ),
    Mutation(
        name="a name is not synced",
        breaks="A power cut takes back a file that was said to be durable.",
        where=STORAGE,
        old="self._committed = True\n        sync_directory(self._path.parent)",
        new="self._committed = True",
        tests=(
            "tests/agent/storage/test_files.py::test_a_file_is_synced_before_it_takes_its_name_and_the_name_after",
        ),
    ),
    Mutation(
        name="transactions are not synced",
        breaks="A power cut takes back what the journal said before the device acted on it.",
        where=STORAGE,
        old="PRAGMA synchronous = FULL",
        new="PRAGMA synchronous = NORMAL",
        tests=("tests/agent/storage/test_state.py::test_every_commit_is_synced",),
    ),
    Mutation(
        name="a failed transaction is kept",
        breaks="Half of a step stands in the database: a pointer without its journal.",
        where=STORAGE,
        old='self.connection.execute("ROLLBACK")',
        new='self.connection.execute("COMMIT")',
        tests=(
            "tests/agent/storage/test_state.py::test_pointer_and_journal_commit_together_or_not_at_all",
        ),
    ),
    Mutation(
        name="two agents on one directory",
        breaks="Two agents write the same journal.",
        where=STORAGE,
        old="fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        new="fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        tests=("tests/agent/app/test_agent_cli.py::test_a_lock_is_one_holders_and_names_it",),
    ),
)
