"""What a device believes: metadata, directives, time, and who it is itself."""

from mutants.mutation import Mutation

TRUST = "agent/muster_agent/trust"
IDENTITY = "agent/muster_agent/identity"

MUTATIONS = (
    Mutation(
        name="a model role's expiry ignored",
        breaks="A release key's withdrawal by expiry never reaches a device that lost its link.",
        where=TRUST,
        old="stems.append(manifest.role_name(model))",
        new="stems.append(Root.type)",
        tests=(
            "tests/agent/trust/test_expiry.py::test_the_first_role_to_expire_ends_new_installs_at_that_second",
        ),
    ),
    Mutation(
        name="expiry a second late",
        breaks="Expired metadata permit one more install.",
        where=TRUST,
        old="if stem in ends and now >= ends[stem]",
        new="if stem in ends and now > ends[stem]",
        tests=(
            "tests/agent/trust/test_expiry.py::test_the_first_role_to_expire_ends_new_installs_at_that_second",
        ),
    ),
    Mutation(
        name="any payload is a directive",
        breaks="Something else that the director's key signed is taken for a directive.",
        where=TRUST,
        old="if opened.payload_type != directive.PAYLOAD_TYPE:",
        new="if not opened.payload_type:",
        tests=(
            "tests/attacks/test_directive_attacks.py::test_something_else_signed_by_the_director_is_refused",
        ),
    ),
    Mutation(
        name="a manifest's length not compared",
        breaks="A directive can name a length that release keys did not sign.",
        where="agent/muster_agent/app",
        old="if target == (goal.manifest, goal.manifest_bytes):",
        new="if target and target[0] == goal.manifest:",
        tests=(
            "tests/agent/app/test_goals.py::test_a_goal_that_differs_from_the_signed_entry_in_one_field_is_refused",
        ),
    ),
    Mutation(
        name="an adopted directive is not durable",
        breaks="A restart forgets the generation, and an older directive is taken again.",
        where="agent/muster_agent/app",
        old="self._state.put_adopted(Adopted(candidate.epoch, candidate.generation, envelope))",
        new="Adopted(candidate.epoch, candidate.generation, envelope)",
        tests=(
            "tests/agent/app/test_goals.py::test_a_directive_is_durable_before_any_slot_hears_of_it",
        ),
    ),
    Mutation(
        name="a clock before the floor is believed",
        breaks="A clock that is set back makes expired metadata good again.",
        where=TRUST,
        old='if reading.quality == "synchronised" and reading.wall_seconds >= floor:',
        new='if reading.quality == "synchronised":',
        tests=(
            "tests/agent/trust/test_trusted_time.py::test_a_synchronised_clock_counts_unless_it_is_before_what_was_signed",
        ),
    ),
    Mutation(
        name="an unset clock is believed",
        breaks="A device at 1970, or in 2100, judges expiry by its clock.",
        where=TRUST,
        old='if reading.quality == "synchronised" and reading.wall_seconds >= floor:',
        new="if reading.wall_seconds >= floor:",
        tests=(
            "tests/agent/trust/test_trusted_time.py::test_trusted_time_is_never_before_the_build_or_a_signed_issue_time",
        ),
    ),
    Mutation(
        name="signed times set no floor",
        breaks="A device without a clock believes metadata that had expired before what it holds.",
        where=TRUST,
        old="floor = max(BUILD_TIME, issued_floor)",
        new="floor = BUILD_TIME",
        tests=(
            "tests/agent/trust/test_trusted_time.py::test_a_synchronised_clock_counts_unless_it_is_before_what_was_signed",
        ),
    ),
    Mutation(
        name="a refused cycle keeps nothing",
        breaks="Withholding the snapshot undoes a root that withdrew a stolen key.",
        where=TRUST,
        old="if kept != before:",
        new="if kept != before and refused is None:",
        tests=(
            "tests/attacks/test_stolen_keys.py::test_a_revoked_targets_key_stays_revoked_when_the_snapshot_is_withheld",
        ),
    ),
    Mutation(
        name="a new root keeps the old floor",
        breaks="An issue time of 2100 signed with a stolen key locks a device out for ever.",
        where=TRUST,
        old="if refused is not None and self.versions()[Root.type] > root_before:",
        new="if refused is not None and self.versions()[Root.type] < root_before:",
        tests=(
            "tests/attacks/test_frozen_and_lying_clocks.py::test_an_issue_time_of_2100_signed_by_a_thief_ends_with_a_new_root",
        ),
    ),
    Mutation(
        name="the trust store believes any file",
        breaks="A damaged file of the newest set is used in place of a whole one of an older set.",
        where=TRUST,
        old="if sums.get(name) == sha256_hex(data)}",
        new="if name in sums}",
        tests=(
            "tests/attacks/test_damaged_trust_store.py::test_a_damaged_file_does_not_lose_the_memory_of_what_was_seen",
        ),
    ),
    Mutation(
        name="a refused model's role is used",
        breaks="A model whose role did not verify is installed by an older role.",
        where=TRUST,
        old="if model in self.refused:",
        new="if not model:",
        tests=(
            "tests/attacks/test_hostile_broker.py::test_the_role_of_another_model_in_place_of_ours_is_refused",
        ),
    ),
    Mutation(
        name="one set of trust kept",
        breaks="A damaged newest set leaves a device without the memory of what it has seen.",
        where=TRUST,
        old="SETS_KEPT = 3",
        new="SETS_KEPT = 1",
        tests=(
            "tests/agent/trust/test_trust_store.py::test_a_set_left_unfinished_by_a_kill_is_not_read_and_goes_with_the_next",
        ),
    ),
    Mutation(
        name="certificate of a stranger's authority",
        breaks="Whoever answers first on the broker gives the device an identity.",
        where=IDENTITY,
        old="if not any(_issued_by(certificate, authority) for authority in authorities):",
        new="if not authorities:",
        tests=(
            "tests/agent/identity/test_renewal.py::test_a_certificate_that_is_not_for_this_device_is_ignored",
        ),
    ),
    Mutation(
        name="certificate of another device",
        breaks="A device takes another device's name at its renewal.",
        where=IDENTITY,
        old="if identity.common_name(certificate, what) != self.who.device:",
        new="if not identity.common_name(certificate, what):",
        tests=(
            "tests/agent/identity/test_renewal.py::test_a_certificate_that_is_not_for_this_device_is_ignored",
        ),
    ),
    Mutation(
        name="a refused identity stays",
        breaks="A renewed certificate that no broker accepts locks the device out.",
        where=IDENTITY,
        old="(self._directory / identity.NEXT_CERT).unlink(missing_ok=True)",
        new="identity.promote(self._directory)",
        tests=(
            "tests/agent/identity/test_renewal.py::test_what_the_broker_refused_is_dropped_and_the_old_identity_stays",
        ),
    ),
    Mutation(
        name="the factory root is replaced",
        breaks="Enrolling again makes a device trust whoever offers it another root.",
        where=IDENTITY,
        old="if held is not None and held != root:",
        new="if held is not None and root is None:",
        tests=(
            "tests/agent/identity/test_enroll.py::test_enrolling_again_never_replaces_a_factory_root",
        ),
    ),
    Mutation(
        name="the root's hash not compared",
        breaks="A hub that hands out its own root is believed.",
        where=IDENTITY,
        old="if not hmac.compare_digest(sha256_hex(root), sha256):",
        new="if not sha256:",
        tests=(
            "tests/attacks/test_enrolment_attacks.py::test_a_hub_that_hands_its_own_root_to_a_new_device_is_refused",
        ),
    ),
    Mutation(
        name="the hub's authority not compared",
        breaks="Whoever is between device and hub is taken for the hub, and given the token.",
        where=IDENTITY,
        old="if not has_fingerprint(certificate, fingerprint):",
        new="if not fingerprint:",
        tests=(
            "tests/agent/identity/test_enroll.py::test_bad_input_is_one_clear_line_and_changes_nothing",
        ),
    ),
    Mutation(
        name="a peer's validity not judged",
        breaks="A hub's certificate that expired years ago is good.",
        where=IDENTITY,
        old="if now.past(end):",
        new="if now.past(end + end):",
        tests=(
            "tests/agent/identity/test_enroll.py::test_a_hub_certificate_that_has_expired_by_trusted_time_is_refused",
        ),
    ),
    Mutation(
        name="a reply for another key",
        breaks="A device keeps a certificate that its key does not fit, and can't connect.",
        where=IDENTITY,
        old='raise EnrolError(f"{what} is for another key than this device\'s")',
        new="pass",
        tests=(
            "tests/agent/identity/test_enroll.py::test_a_certificate_for_another_key_is_refused",
        ),
    ),
)
