"""How the counts of a summary are kept with its window: some in columns, all others as one map.

A new count of ``summary.Tally`` needs no column: it is in the map by its name. Pure.
"""

from muster_protocol.signals.summary import TALLY_NAMES, Tally

COLUMNS = {"inferences": "n", "errors": "errors"} | {
    name: name
    for name in (
        "labels_right", "labels_wrong", "compared", "disagreed", "compared_failed",
        "compared_labelled", "compared_right", "compared_champion_right",
    )
}  # fmt: skip
"""Count to the column of ``summary_window`` that holds it."""

_OWN_PLACES = tuple(
    (place, COLUMNS[name]) for place, name in enumerate(TALLY_NAMES) if name in COLUMNS
)
_OTHER_PLACES = tuple(
    (place, name) for place, name in enumerate(TALLY_NAMES) if name not in COLUMNS
)


def columns(tally: Tally) -> dict[str, int | dict[str, int]]:
    """Values of the columns of ``summary_window`` that hold counts."""
    values = tally.values()
    found: dict[str, int | dict[str, int]] = {
        column: values[place] for place, column in _OWN_PLACES
    }
    found["errors"] = tally.errors
    found["counts"] = {name: values[place] for place, name in _OTHER_PLACES if values[place]}
    return found
