"""The table of mutations fits the tree, and its runner tells what tests did not notice."""

import json
from dataclasses import replace

import pytest

from mutants import run
from mutants.mutation import PACKAGES, Mutation, stale
from mutants.table import TABLE

MUTATIONS_MIN = 60
TOPICS = "tests/protocol/wire/test_topics.py"
EQUIVALENT = Mutation(
    name="equivalent",
    breaks="Nothing: a survivor, as a line without a test would be.",
    where="protocol/muster_protocol/wire/topics.py",
    old='ROOT = "muster/v1"',
    new='ROOT = "muster" + "/v1"',
    tests=(f"{TOPICS}::test_a_chunk_topic_parses_back_to_its_digest",),
)
DEADLY = replace(
    EQUIVALENT, name="deadly", new='ROOT = "muster/v1/"',
    tests=(f"{TOPICS}::test_an_up_topic_parses_back_to_what_built_it",),
)  # fmt: skip
NO_IMPORT = replace(EQUIVALENT, name="no import", new='ROOT = absent + "muster/v1"')


def test_the_table_covers_what_it_promises():
    assert len(TABLE) >= MUTATIONS_MIN
    assert {
        mutation.where for mutation in TABLE if not mutation.where.startswith(PACKAGES)
    } == set()
    assert [mutation.name for mutation in TABLE if not mutation.breaks.endswith(".")] == []


def test_every_mutation_still_fits_the_tree_and_names_tests_that_exist():
    assert stale(TABLE, run.ROOT) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"old": "no such line"}, "nothing in protocol/muster_protocol/wire/topics.py reads"),
        ({"old": 'ROOT = "muster/v2"'}, """the line most like it is 'ROOT = "muster/v1"'"""),
        (
            {"where": "protocol/muster_protocol/signals"},
            "it stands in protocol/muster_protocol/wire/topics.py",
        ),
        ({"old": "ROOT"}, "make it longer"),
        ({"where": "protocol/muster_protocol/attic"}, "is not there any more"),
        ({"new": EQUIVALENT.old}, "changes nothing"),
        ({"new": 'ROOT = "'}, "is not Python"),
        ({"tests": ()}, "names no test"),
        ({"tests": (f"{TOPICS}::test_that_was_renamed",)}, "there is no test"),
        ({"tests": ("tests/protocol/wire/test_moved.py",)}, "there is no test"),
    ],
)
def test_an_entry_that_no_longer_fits_is_named_with_what_to_repair(changes, fault, capsys):
    named = stale([replace(EQUIVALENT, **changes)], run.ROOT)
    assert len(named) == 1
    assert named[0].startswith("equivalent: ")
    assert fault in named[0]
    assert run.main([], [replace(EQUIVALENT, **changes)]) == 2
    assert fault in capsys.readouterr().err


def test_two_entries_of_one_name_are_refused():
    assert stale([EQUIVALENT, EQUIVALENT], run.ROOT) == ["equivalent: two mutations have this name"]


def test_a_survivor_and_what_proves_nothing_are_told_apart_from_what_was_killed(capsys):
    assert run.main(["--json"], [EQUIVALENT, DEADLY, NO_IMPORT]) == 1
    results = json.loads(capsys.readouterr().out)
    assert {result["name"]: result["outcome"] for result in results} == {
        "equivalent": "survived", "deadly": "killed", "no import": "error",
    }  # fmt: skip
    assert "absent" in results[2]["detail"]


def test_only_the_mutations_asked_for_are_tried_and_all_killed_is_success(capsys):
    assert run.main(["--only", "deadly"], [EQUIVALENT, DEADLY]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "mutants: 1 of 1 killed"


def test_tests_that_fail_without_any_mutation_prove_nothing(capsys):
    broken = replace(DEADLY, tests=(f"{TOPICS}::test_an_up_topic_parses_back_to_what_built_it[x]",))
    assert run.main([], [broken]) == 2
    assert "without any mutation" in capsys.readouterr().err


def test_the_list_says_what_each_mutation_breaks(capsys):
    assert run.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert [mutation.name for mutation in TABLE if mutation.breaks not in listed] == []


def test_a_name_that_no_mutation_has_is_refused(capsys):
    assert run.main(["--only", "no such mutation"]) == 2
    assert "--list" in capsys.readouterr().err
