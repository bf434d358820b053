"""How the counts of a summary are kept with its window: some in columns, all others as one map.

A new count of ``summary.Tally`` needs no column: it is in the map by its name. Pure.
"""

from muster_protocol.signals.summary import Tally

COLUMNS = {"inferences": "n", "errors": "errors"} | {
    name: name
    for name in (
        "labels_right", "labels_wrong", "compared", "disagreed", "compared_failed",
        "compared_labelled", "compared_right", "compared_champion_right",
    )
}  # fmt: skip
"""Count to the column of ``summary_window`` that holds it."""


def columns(tally: Tally) -> dict[str, int | dict[str, int]]:
    """Values of the columns of ``summary_window`` that hold counts."""
    own = {column: int(getattr(tally, name)) for name, column in COLUMNS.items()}
    others = {name: n for name, n in tally.named().items() if n and name not in COLUMNS}
    return own | {"counts": others}
