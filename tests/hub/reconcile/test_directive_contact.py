"""Where the hub is going is told to every device whose agent knows the field, once it is signed."""

from pathlib import Path

from msgspec import UNSET, UnsetType

from muster_agent.app.facts import UNDERSTANDS
from muster_protocol.wire.contact import Contact
from support.hub_engine import Plant
from wire_samples import CONTACT

NEW = {"facts": {"understands": list(UNDERSTANDS)}}
OLD = {"facts": {"understands": ["attempt"]}}


class Sent:
    """What targets in force let devices be told."""

    def __init__(self) -> None:
        self.contact: Contact | UnsetType = UNSET

    def __call__(self) -> Contact | UnsetType:
        return self.contact


def test_it_is_told_to_agents_that_know_the_field_whether_or_not_they_run_anything(
    tmp_path: Path,
) -> None:
    sent = Sent()
    plant = Plant(tmp_path, "new", "old", "idle", contact=sent)
    plant.publish("1")
    plant.change("new", report=NEW, labels={"runs": "yes"})
    plant.change("old", report=OLD, labels={"runs": "yes"})
    plant.start("1", selector="runs=yes")
    plant.tick()
    before = plant.directive("new")
    assert before.contact is UNSET
    plant.change("idle", report=NEW)
    sent.contact = CONTACT
    plant.tick()
    assert plant.directive("new").contact == CONTACT
    assert plant.directive("new").generation == before.generation + 1
    assert plant.directive("new").slots == before.slots
    assert plant.directive("old").contact is UNSET
    assert plant.directive("idle").contact == CONTACT
    assert plant.directive("idle").slots == {}
    plant.change("old", report=NEW)
    plant.tick()
    assert plant.directive("old").contact == CONTACT
    plant.close()


def test_as_long_as_nothing_is_signed_devices_without_a_model_get_no_directive(
    tmp_path: Path,
) -> None:
    plant = Plant(tmp_path, "idle", contact=Sent())
    plant.change("idle", report=NEW)
    plant.tick()
    assert plant.directives() == {}
    plant.close()
