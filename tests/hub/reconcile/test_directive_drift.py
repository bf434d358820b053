"""How drift is judged is told only to agents that know the field."""

from pathlib import Path

from msgspec import UNSET

from muster_agent.app.facts import UNDERSTANDS
from muster_protocol.wire.directive import Drift
from support.hub_engine import SLOT, Plant

STRICT = Drift(budget_per_month=0.1, settle_seconds=0.0)


def test_an_older_agent_is_not_told_what_it_would_refuse_and_is_once_it_is_updated(
    tmp_path: Path,
) -> None:
    plant = Plant(tmp_path, "new", "old", "silent", drift=STRICT)
    plant.publish("1")
    plant.change("new", report={"facts": {"understands": list(UNDERSTANDS)}})
    plant.change("old", report={"facts": {"understands": ["attempt"]}})
    plant.start("1")
    plant.tick()
    heard = {name: plant.directive(name).slots[SLOT].drift for name in ("new", "old", "silent")}
    assert heard == {"new": STRICT, "old": UNSET, "silent": UNSET}
    plant.change("old", report={"facts": {"understands": list(UNDERSTANDS)}})
    plant.tick()
    assert plant.directive("old").slots[SLOT].drift == STRICT
    plant.close()
