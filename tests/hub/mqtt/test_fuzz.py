"""A slice of ``make fuzz``, as long as a test may take: on both databases, another seed each."""

from pathlib import Path

from fuzz.siege import Siege

MESSAGES = 2_000
SECONDS = 25.0
SEEDS = {"sqlite": 1_001, "postgresql": 1_002}


def test_no_message_of_a_device_stops_ingest_the_engine_or_any_list(
    tmp_path: Path, database: str, record_property
):
    kind = "sqlite" if database.startswith("sqlite") else "postgresql"
    outcome = Siege(tmp_path, database, SEEDS[kind]).run(MESSAGES, SECONDS)
    assert outcome.counts["set_aside"] > outcome.messages / 20
    assert outcome.counts["rows"] > outcome.messages / 20
    assert outcome.counts["lists"] > 0
    record_property("tried", f"fuzz on {kind}, {outcome}")
