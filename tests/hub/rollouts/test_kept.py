"""What a rollout's row keeps beside its columns: read as types, written as it always was."""

import pytest

from muster_hub.errors import HubError
from muster_hub.rollouts import kept
from muster_hub.rollouts.experiments import Effect, Experiment
from muster_hub.rollouts.kept import Replaced
from muster_hub.rollouts.members import Judged
from muster_hub.rollouts.shadows import Shadow
from muster_hub.storage import models

EFFECT = Effect(metric="errors", unit="ratio", effect=1.2, low=0.9, high=1.6)


def row(**columns) -> models.Rollout:
    return models.Rollout(
        id=7, model="digits", version="2", manifest="ab" * 32, slot="main", selector="",
        state="running", created=0.0, created_by="anna", updated=0.0, **columns,
    )  # fmt: skip


def test_a_new_rollout_keeps_nothing():
    new = row()
    assert (kept.judged(new), kept.shadow(new), kept.replaced(new)) == (None, None, None)


@pytest.mark.parametrize(
    ("value", "put", "read"),
    [
        (
            Judged(
                wave=1, look=8, action="wait", reason="Not enough.", warnings={"drift": "It does."},
                experiment=Experiment(a=("cam-1",), b=("cam-2",), effects=(EFFECT,)),
            ),
            kept.put_judged, kept.judged,
        ),
        (Shadow(devices=("cam-1",), since=5.0, look=2), kept.put_shadow, kept.shadow),
        (Replaced(model="digits", version="1", rollout=3), kept.put_replaced, kept.replaced),
    ],
)  # fmt: skip
def test_what_was_put_is_read_again(value, put, read):
    kept_row = row()
    put(kept_row, value)
    assert read(kept_row) == value


def test_what_an_earlier_hub_has_written_stays_readable():
    old = row(
        judged={"wave": 0, "look": 4, "action": "advance", "reason": "Advance.", "by": "gone"},
        shadow={"devices": ["cam-1"], "since": 1.0, "look": 0, "action": "wait", "reason": ""},
        replaced={"model": "digits", "version": "1", "rollout": None},
    )
    assert kept.judged(old) == Judged(wave=0, look=4, action="advance", reason="Advance.")
    assert kept.shadow(old) == Shadow(devices=("cam-1",), since=1.0)
    assert kept.replaced(old) == Replaced(model="digits", version="1")


@pytest.mark.parametrize(
    ("column", "read"),
    [("judged", kept.judged), ("shadow", kept.shadow), ("replaced", kept.replaced)],
)
def test_what_cannot_be_read_names_the_rollout_and_the_column(column, read):
    with pytest.raises(HubError, match=f"rollout 7: its {column} can't be read"):
        read(row(**{column: {"wave": "first", "devices": 3, "model": 1}}))
