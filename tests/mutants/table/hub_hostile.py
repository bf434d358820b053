"""What keeps one device, one client or one careless act from harming the others."""

from mutants.mutation import Mutation

MQTT = "hub/muster_hub/mqtt"
ASIDE = "tests/hub/mqtt/test_setting_aside.py"
DEVICE = "tests/attacks/test_hostile_device.py"
STICK = "tests/attacks/test_hostile_stick.py"
PACE = "tests/hub/api/test_pace.py"

MUTATIONS = (
    Mutation(
        name="a batch fails as a whole",
        breaks="One row that the database refuses takes every other device's messages with it.",
        where=MQTT,
        old="if len(batch) > 1:",
        new="if len(batch) > 1_000_000:",
        tests=(
            f"{ASIDE}::test_of_a_batch_the_database_refuses_only_the_row_at_fault_is_set_aside",
        ),
    ),
    Mutation(
        name="data are tried for ever",
        breaks="A message that the database will never hold is written again and again.",
        where="hub/muster_hub/storage",
        old="return isinstance(error, OSError | MemoryError)",
        new="return isinstance(error, Exception)",
        tests=(
            "tests/hub/reconcile/test_engine_care.py::test_a_window_that_fails_is_set_aside_and_the_others_are_taken_in",
        ),
    ),
    Mutation(
        name="a parser's own errors",
        breaks="A certificate request with one flipped byte ends ingest.",
        where="hub/muster_hub/identity",
        old="if not isinstance(error, Exception) and type(error).__name__ != PANIC:",
        new="if not isinstance(error, ValueError):",
        tests=(
            "tests/hub/identity/test_parsing.py::test_a_mutated_request_is_read_or_refused_never_an_exception_of_the_parsers",
        ),
    ),
    Mutation(
        name="a row that fails stops its step",
        breaks="One device's window keeps every other out of sums, directives and alerts.",
        where="hub/muster_hub/storage",
        old="with nullcontext() if pure else session.begin_nested():\n                    work(item)\n            except Exception as error:\n                if faults.passes(error):",
        new="with nullcontext() if pure else session.begin_nested():\n                    work(item)\n            except Exception as error:\n                if error:",
        tests=(
            "tests/hub/reconcile/test_engine_care.py::test_a_window_that_fails_is_set_aside_and_the_others_are_taken_in",
        ),
    ),
    Mutation(
        name="silence is well",
        breaks="A thread that hangs stands as ok, and no alert opens.",
        where="hub/muster_hub",
        old='if state not in ("ended", "dead") and unheard > self._allowed_seconds:',
        new='if state not in ("ended", "dead") and unheard > 1e9 * self._allowed_seconds:',
        tests=("tests/hub/app/test_watch.py::test_a_thread_that_hangs_is_silent_after_its_time",),
    ),
    Mutation(
        name="a dead thread is not noticed",
        breaks="Ingest has ended and the hub says that all is well.",
        where="hub/muster_hub",
        old='self._set("dead", described(error))',
        new='self._set("ok", described(error))',
        tests=("tests/hub/app/test_watch.py::test_a_thread_that_dies_is_dead_and_says_of_what",),
    ),
    Mutation(
        name="versions carried ahead without end",
        breaks="Whoever holds the online keys fast-forwards the fleet's metadata for good.",
        where="hub/muster_hub/signing",
        old="if total > LEAP_TOTAL_MAX:",
        new="if leap > LEAP_TOTAL_MAX:",
        tests=(
            "tests/hub/signing/test_catching_up.py::test_how_far_it_ever_follows_is_capped_in_total",
        ),
    ),
    Mutation(
        name="what is shown is believed unsigned",
        breaks="A device moves the fleet's metadata versions by bytes of its own making.",
        where="hub/muster_hub/signing",
        old="if not any(roles.verified(root, role, metadata) for root in roots):",
        new="if not any(roots):",
        tests=(f"{DEVICE}::test_metadata_shown_that_this_hubs_keys_did_not_sign",),
    ),
    Mutation(
        name="a token looked at too late",
        breaks="Strangers lock out everybody who holds a token behind the same address.",
        where="hub/muster_hub/api",
        old='if bearer and wait and await run_in_threadpool(self._is_good, bearer.decode("latin-1")):',
        new="if bearer and wait < 0:",
        tests=(f"{PACE}::test_strangers_do_not_lock_out_a_token_behind_the_same_address",),
    ),
    Mutation(
        name="a text that steers is shown",
        breaks="A device's name clears the operator's screen or fills the clipboard.",
        where="hub/muster_client/terminal",
        old="if segment.control or bounds.is_clean(segment.text):",
        new="if segment.control or segment.text:",
        tests=(
            "tests/client/test_terminal_safety.py::test_tables_facts_and_lines_are_cleaned_as_they_are_drawn",
        ),
    ),
    Mutation(
        name="a text that steers is JSON",
        breaks="What is shown as JSON steers the operator's terminal.",
        where="hub/muster_client/terminal",
        old="text = json.dumps(value, indent=indent, ensure_ascii=False)\n    if bounds.is_clean(text):",
        new="text = json.dumps(value, indent=indent, ensure_ascii=False)\n    if text:",
        tests=(
            "tests/client/test_terminal_safety.py::test_json_says_the_same_without_a_character_that_steers",
        ),
    ),
    Mutation(
        name="epochs are hoarded",
        breaks="A device that begins ten thousand epochs slows its own ingest tenfold.",
        where=MQTT,
        old="gone += [key for key in held[EPOCHS_PER_STREAM_MAX:] if key not in wanted]",
        new="gone += [key for key in held[100_000:] if key not in wanted]",
        tests=(f"{DEVICE}::test_a_hoard_of_epochs",),
    ),
    Mutation(
        name="a generation that was never given is believed",
        breaks="A device lies about what it was told, and nobody is shown.",
        where="hub/muster_hub/alerts",
        old="    if held > given:",
        new="    if held < given:",
        tests=(f"{DEVICE}::test_a_generation_that_the_hub_never_gave",),
    ),
    Mutation(
        name="more inferences than can be",
        breaks="A device counts what no machine could have done, and nobody is shown.",
        where="hub/muster_hub/alerts",
        old="if inferences + errors > seconds * INFERENCES_PER_SECOND_MAX:",
        new="if inferences + errors < 0:",
        tests=(f"{DEVICE}::test_more_inferences_than_any_device_makes",),
    ),
    Mutation(
        name="a stick's links are followed",
        breaks="A stick copies the device's identity key to where everybody can read it.",
        where="agent/muster_agent/fetch",
        old="_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC",
        new="_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC",
        tests=(f"{STICK}::test_a_link_to_the_identity_key_is_not_copied",),
    ),
    Mutation(
        name="a file of several names is copied",
        breaks="A second name of the identity key on the same disk is imported like a model.",
        where="agent/muster_agent/fetch",
        old="elif found.st_nlink > 1:",
        new="elif found.st_nlink > 100:",
        tests=(f"{STICK}::test_another_name_of_the_identity_key_is_not_copied",),
    ),
    Mutation(
        name="a no is a yes",
        breaks="A device is revoked although whoever typed the command thought better of it.",
        where="hub/muster_client/terminal",
        old='typer.confirm(f"{shown}. Go on?", abort=True, err=True)',
        new='typer.confirm(f"{shown}. Go on?", abort=False, err=True)',
        tests=("tests/client/test_irreversible.py::test_at_a_terminal_only_a_yes_goes_on",),
    ),
    Mutation(
        name="nobody is asked",
        breaks="A script that forgot --yes revokes a device without a word.",
        where="hub/muster_client/terminal",
        old="    if not sys.stdin.isatty():\n        raise WrongUsage",
        new="    if not sys.stdin.isatty():\n        return\n        raise WrongUsage",
        tests=(
            "tests/client/test_irreversible.py::test_where_nobody_can_be_asked_nothing_is_done_and_it_is_said_what_would_be",
        ),
    ),
)
