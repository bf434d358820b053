"""Evidently's default drift tests on windows: its own choice of test and threshold per column, and
its default for the whole: drift when at least half of the columns drift. Only these tests are run,
not the report around them. Arguments: a folder of runs, and seconds after which no other run is
begun. Prints JSON: flags of each run that was reached, the smallest first."""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType

DRIFT_SHARE = 0.5


def flags(path: Path) -> list[bool]:
    """Of each window of a run."""
    with np.load(path) as data:
        training, windows = data["training"], data["windows"]
        coded = data["categories"].tolist()
    kinds = [ColumnType.Categorical if flag else ColumnType.Numerical for flag in coded]
    drifted = np.zeros((len(windows), training.shape[1]), bool)
    for place, kind in enumerate(kinds):
        reference = pd.Series(training[:, place]).dropna()
        for number, rows in enumerate(windows[:, :, place]):
            current = pd.Series(rows).dropna()
            if len(current):
                test = get_stattest(reference, current, kind, None)
                drifted[number, place] = bool(test(reference, current, kind, None).drifted)
    return (drifted.mean(axis=1) >= DRIFT_SHARE).tolist()


def reached(folder: Path, end: float) -> dict[str, list[bool]]:
    found = {}
    for path in sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_size):
        if time.monotonic() > end:
            break
        found[path.stem] = flags(path)
        print(path.stem, file=sys.stderr, flush=True)
    return found


warnings.simplefilter("ignore")
print(json.dumps(reached(Path(sys.argv[1]), time.monotonic() + float(sys.argv[2]))))
