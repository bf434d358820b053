"""What both sides must agree on: what is signed, said and counted."""

from mutants.mutation import Mutation

WIRE = "protocol/muster_protocol/wire"
SIGNALS = "protocol/muster_protocol/signals"
TESTS = "tests/protocol/wire"
DRIFT = "tests/protocol/signals/test_drift.py"

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
        old="total = sum(entry.size_bytes for entry in manifest.files)",
        new="total = max(entry.size_bytes for entry in manifest.files)",
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
)
