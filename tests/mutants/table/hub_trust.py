"""What the hub signs, whom it lets in and do what, and what it writes down of it."""

from mutants.mutation import Mutation

SIGNING = "hub/muster_hub/signing"
IDENTITY = "hub/muster_hub/identity"
ACCESS = "hub/muster_hub/access"
AUDIT = "protocol/muster_protocol/wire"
MQTT = "hub/muster_hub/mqtt"

MUTATIONS = (
    Mutation(
        name="a rotated director's key signs nothing anew",
        breaks="After a rotation devices refuse their directives until something else changes.",
        where="hub/muster_hub/reconcile",
        old="and (generation, epoch, keyid) == (held.generation, held.epoch, held.keyid)",
        new="and (generation, epoch) == (held.generation, held.epoch)",
        tests=(
            "tests/hub/reconcile/test_signed_anew.py::test_a_rotated_director_key_signs_every_directive_anew_under_the_same_generation",
        ),
    ),
    Mutation(
        name="a directive runs out",
        breaks="A device that was away for a day finds an expired directive.",
        where="hub/muster_hub/reconcile",
        old="RENEW_SHARE = 0.5",
        new="RENEW_SHARE = 1.5",
        tests=(
            "tests/hub/reconcile/test_signed_anew.py::test_half_way_to_its_end_a_directive_is_renewed_under_the_same_generation",
        ),
    ),
    Mutation(
        name="a generation below the device's",
        breaks="A device that has seen more than the hub knows refuses every directive.",
        where="hub/muster_hub/reconcile",
        old="return max(own, reported) + 1",
        new="return own + 1",
        tests=(
            "tests/hub/reconcile/test_generations.py::test_new_content_is_told_above_what_both_have_seen_and_the_same_under_its_own",
        ),
    ),
    Mutation(
        name="an absurd generation is counted from",
        breaks="One device's report uses up its generations, and it can never be told anything.",
        where="hub/muster_hub/reconcile",
        old="if reported > own + LEAP_MAX:",
        new="if reported < own:",
        tests=(
            "tests/hub/reconcile/test_engine.py::test_an_absurd_generation_that_a_device_reports_is_not_counted_from",
        ),
    ),
    Mutation(
        name="the director may sign manifests",
        breaks="Whoever steals the hub's online keys can have any model installed.",
        where=SIGNING,
        old="directive.ROLE, [director.keyid], 1, terminating=False, paths=[]",
        new='directive.ROLE, [director.keyid], 1, terminating=False, paths=["*"]',
        tests=(
            "tests/hub/signing/test_signing.py::test_the_director_is_delegated_without_any_path",
        ),
    ),
    Mutation(
        name="one signature releases",
        breaks="One of two people releases a version alone.",
        where=SIGNING,
        old="name, keys.ids, keys.threshold, terminating=True",
        new="name, keys.ids, 1, terminating=True",
        tests=(
            "tests/hub/signing/test_key_ceremonies.py::test_a_models_first_release_needs_as_many_people_as_any",
        ),
    ),
    Mutation(
        name="a release key for every model",
        breaks="Who may release one model may release all.",
        where=SIGNING,
        old='paths=[f"{model}/*/manifest.json"]',
        new='paths=["*/*/manifest.json"]',
        tests=("tests/hub/signing/test_signing.py::test_a_models_role_speaks_of_that_model_alone",),
    ),
    Mutation(
        name="a released version changes",
        breaks="A version's content is replaced under its name.",
        where=SIGNING,
        old="if known is not None and known.hashes != target.hashes:",
        new="if known is not None and not known.hashes:",
        tests=(
            "tests/hub/signing/test_signing.py::test_a_released_version_can_never_get_other_content",
        ),
    ),
    Mutation(
        name="signatures for what was not drafted",
        breaks="Metadata made elsewhere gets past the release check.",
        where=SIGNING,
        old="if draft.signed_bytes == offered.signed_bytes:",
        new="if draft.signed.version == offered.signed.version:",
        tests=(
            "tests/hub/signing/test_signing.py::test_signed_metadata_that_the_hub_did_not_draft_is_refused",
        ),
    ),
    Mutation(
        name="a new root by its own keys",
        breaks="A root is published that devices refuse, for the old keys did not sign it.",
        where=SIGNING,
        old='and (current is None or roles.verified(current.signed, "root", draft))',
        new="and (current is None or current)",
        tests=(
            "tests/hub/signing/test_key_ceremonies.py::test_all_root_keys_change_at_once_when_old_and_new_ones_sign",
        ),
    ),
    Mutation(
        name="a key is withdrawn under a model",
        breaks="Devices are cut off from versions that only the withdrawn key had signed.",
        where=SIGNING,
        old="if not stranded:",
        new="if stranded or not stranded:",
        tests=(
            "tests/hub/signing/test_key_ceremonies.py::test_a_stolen_release_key_is_withdrawn_and_signs_nothing_more",
        ),
    ),
    Mutation(
        name="the timestamp is published first",
        breaks="A device that reads in that moment finds a snapshot that isn't there.",
        where=SIGNING,
        old='self._sign_online("snapshot", snapshot, now)\n        self._seal_timestamp(snapshot.version, now)',
        new='self._seal_timestamp(snapshot.version, now)\n        self._sign_online("snapshot", snapshot, now)',
        tests=("tests/hub/signing/test_signing.py::test_a_retired_version_is_no_longer_found",),
    ),
    Mutation(
        name="an expired token enrols",
        breaks="A token that was found years later still lets a device in.",
        where=IDENTITY,
        old="if now >= row.expires:",
        new="if now < 0:",
        tests=(
            "tests/hub/identity/test_enrolment.py::test_an_expired_token_is_refused_for_retries_too",
        ),
    ),
    Mutation(
        name="a token without its secret",
        breaks="Whoever knows a token's id, which is in the log, lets devices in.",
        where=IDENTITY,
        old="if row is None or not hmac.compare_digest(row.secret_hash, given):",
        new="if row is None or not given:",
        tests=(
            "tests/hub/identity/test_enrolment.py::test_a_token_with_another_secret_is_refused",
        ),
    ),
    Mutation(
        name="a token is never used up",
        breaks="A token for one device lets in as many as like.",
        where=IDENTITY,
        old="token.uses_left -= 1",
        new="token.uses_left -= 0",
        tests=("tests/hub/identity/test_enrolment.py::test_a_token_is_bound_to_the_first_key",),
    ),
    Mutation(
        name="a revoked device comes back",
        breaks="A stolen device enrols itself again.",
        where=IDENTITY,
        old='    if device.revoked:\n        raise Conflict(f"{device.id} was revoked: enrol it under another id")',
        new='    if device.revoked and not device.id:\n        raise Conflict(f"{device.id} was revoked: enrol it under another id")',
        tests=(
            "tests/hub/identity/test_enrolment.py::test_a_revoked_device_never_comes_back_by_itself",
        ),
    ),
    Mutation(
        name="a revoked device is renewed",
        breaks="A stolen device renews its certificate.",
        where=IDENTITY,
        old="if row.revoked or not row.approved:",
        new="if not row.approved:",
        tests=(
            "tests/hub/identity/test_renewal.py::test_a_device_that_is_out_but_still_connected_gets_no_certificate_over_the_broker",
        ),
    ),
    Mutation(
        name="a renewal without proof",
        breaks="Whoever has seen a device's certificate is given its identity.",
        where=IDENTITY,
        old="if row is None or not old.verifies(signature, proof_of(csr_pem)):",
        new="if row is None:",
        tests=(
            "tests/hub/identity/test_renewal.py::test_a_thief_of_the_certificate_alone_proves_nothing",
        ),
    ),
    Mutation(
        name="a request in another name",
        breaks="A device renews itself as another one.",
        where=IDENTITY,
        old='if request.common_name not in ("", device):',
        new="if not device:",
        tests=(
            "tests/hub/identity/test_renewal.py::test_a_device_is_renewed_in_its_own_name_only",
        ),
    ),
    Mutation(
        name="a revocation is left out",
        breaks="A broker lets a revoked device in as soon as its list is written anew.",
        where=IDENTITY,
        old=".where(Certificate.expires > now)",
        new=".where(Certificate.expires < now)",
        tests=(
            "tests/hub/identity/test_enrolment.py::test_revoking_takes_every_certificate_until_it_would_have_expired",
        ),
    ),
    Mutation(
        name="an unsigned report proves",
        breaks="What anyone on the way made up is shown as proved.",
        where=IDENTITY,
        old="any(_signed(pem, reported.proof, said) for pem in certificates)",
        new="any(certificates)",
        tests=("tests/hub/identity/test_proof.py::test_an_altered_report_proves_nothing",),
    ),
    Mutation(
        name="an expired API token",
        breaks="A token that was to end goes on.",
        where=ACCESS,
        old="if row.expires is not None and now >= row.expires:",
        new="if row.expires is not None and now < 0:",
        tests=(
            "tests/hub/api/test_api_access.py::test_a_revoked_token_and_one_past_its_end_are_refused",
        ),
    ),
    Mutation(
        name="a revoked API token",
        breaks="A token that leaked goes on after it was revoked.",
        where=ACCESS,
        old="if row.revoked is not None:",
        new="if row.revoked == 0.0:",
        tests=(
            "tests/hub/api/test_api_access.py::test_a_revoked_token_and_one_past_its_end_are_refused",
        ),
    ),
    Mutation(
        name="a token of one's own making is a second person",
        breaks="One person approves their own rollout.",
        where=ACCESS,
        old="both = people_behind(session, first) & people_behind(session, second)",
        new="both = {first} & {second}",
        tests=(
            "tests/hub/api/test_api_access.py::test_a_token_of_ones_own_making_is_no_second_person",
        ),
    ),
    Mutation(
        name="a scope reaches what it touches",
        breaks="An operator limited to one site acts on every site that a selector names beside it.",
        where=ACCESS,
        old="return have <= want",
        new="return bool(have & want)",
        tests=("tests/hub/api/test_api_access.py::test_a_scope_covers_what_its_parts_imply",),
    ),
    Mutation(
        name="a chunk token of any age",
        breaks="A device that was revoked fetches models for ever.",
        where=ACCESS,
        old="_mac(key, device, expires)) or now >= expires:",
        new="_mac(key, device, expires)) or now < 0:",
        tests=(
            "tests/hub/api/test_api_chunks.py::test_a_device_fetches_chunks_with_its_directive_s_token",
        ),
    ),
    Mutation(
        name="a row is sealed without its detail",
        breaks="What was done to whom is changed in the log, and the chain holds.",
        where=AUDIT,
        old="row.action, row.subject, row.detail]",
        new="row.action, row.subject]",
        tests=("tests/hub/audit/test_audit.py::test_an_edited_row_is_found",),
    ),
    Mutation(
        name="rows of the log may be missing",
        breaks="A row is taken out of the log, and the chain holds.",
        where=AUDIT,
        old="if row.previous != previous:",
        new="if not row.previous:",
        tests=("tests/hub/audit/test_audit.py::test_missing_rows_are_found",),
    ),
    Mutation(
        name="an archive cut short is whole",
        breaks="The end of an archive of the log is lost unnoticed.",
        where=AUDIT,
        old="if rows.tail is None:",
        new="if rows is None:",
        tests=("tests/hub/audit/test_audit_archive.py::test_an_archive_cut_short_is_found",),
    ),
    Mutation(
        name="an acknowledgement over a gap",
        breaks="A device forgets a row that the hub never had.",
        where=MQTT,
        old="if sequence > row.contiguous + 1:",
        new="if sequence > row.contiguous + 2:",
        tests=(
            "tests/hub/mqtt/test_ingest.py::test_rows_are_acknowledged_up_to_the_first_gap_and_again_when_it_is_filled",
        ),
    ),
    Mutation(
        name="a restored hub waits for what is gone",
        breaks="After a restore no device's rows are ever acknowledged again.",
        where=MQTT,
        old="if row.contiguous < least:",
        new="if row.contiguous < 0:",
        tests=(
            "tests/hub/mqtt/test_ingest.py::test_a_hub_restored_from_a_backup_does_not_wait_for_rows_that_are_gone",
        ),
    ),
    Mutation(
        name="a row counts twice",
        breaks="A batch that comes again after its windows were deleted is counted again.",
        where=MQTT,
        old="[n for n in rows if n > marks[key].contiguous and n not in",
        new="[n for n in rows if n not in",
        tests=(
            "tests/hub/mqtt/test_ingest.py::test_a_batch_that_comes_again_after_its_windows_were_deleted_counts_no_second_time",
        ),
    ),
    Mutation(
        name="a request is answered again",
        breaks="A request that comes twice takes a second place in the budget.",
        where=MQTT,
        old="if row is not None and row.nonce == nonce:",
        new="if row is not None and not nonce:",
        tests=(
            "tests/hub/rollouts/test_engine_grants.py::test_asking_twice_costs_no_second_place_and_one_message_is_answered_once",
        ),
    ),
    Mutation(
        name="a code by any key",
        breaks="Whoever may write to the database writes the audit log anew.",
        where=AUDIT,
        old="if not hmac.compare_digest(row.code, key.code(row.hash)):",
        new="if not row.code:",
        tests=(
            "tests/hub/audit/test_audit_keyed.py::test_a_chain_written_anew_in_the_database_is_found",
        ),
    ),
    Mutation(
        name="a row without a code",
        breaks="A row is put into the keyed log by someone without the key.",
        where=AUDIT,
        old="elif row.code or keyed_from is not None:",
        new="elif row.code:",
        tests=(
            "tests/hub/audit/test_audit_keyed.py::test_a_row_without_a_code_is_found_wherever_it_is",
        ),
    ),
    Mutation(
        name="the log is written anew unkeyed",
        breaks="A chain without any code passes for the log of an earlier hub.",
        where=AUDIT,
        old="if key is not None and key.first and keyed_from is None:",
        new="if key is not None and not key.first and keyed_from is None and count < 0:",
        tests=(
            "tests/hub/audit/test_audit_keyed.py::test_rows_from_before_the_log_was_keyed_can_not_be_changed_afterwards",
        ),
    ),
    Mutation(
        name="a device's 1970 is believed",
        breaks="A device that does not know the time writes into the wrong hour.",
        where=MQTT,
        old='elif stamp.quality == "synchronised":',
        new="else:",
        tests=(
            "tests/hub/mqtt/test_ingest.py::test_a_stamp_of_an_earlier_boot_is_placed_by_a_synchronised_clock_only",
        ),
    ),
    Mutation(
        name="windows of times to come",
        breaks="A device whose clock is ahead writes into hours that have not been.",
        where=MQTT,
        old="at = min(stamp.wall_seconds, received)",
        new="at = stamp.wall_seconds",
        tests=(
            "tests/hub/mqtt/test_ingest.py::test_a_stamp_of_an_earlier_boot_is_placed_by_a_synchronised_clock_only",
        ),
    ),
    Mutation(
        name="sequences that don't rise",
        breaks="Two rows of one number are taken for one.",
        where=MQTT,
        old="if sequences != sorted(set(sequences)):",
        new="if sequences != sorted(sequences):",
        tests=(
            "tests/hub/mqtt/test_ingest.py::test_a_batch_whose_numbers_do_not_rise_is_malformed",
        ),
    ),
)
