"""Evidently's default drift tests on windows: its own choice of test and threshold per column, and
its default for the whole: drift when at least half of the columns drift. Prints JSON: flags of each
run of a folder."""

import json
import sys
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


warnings.simplefilter("ignore")
print(json.dumps({path.stem: flags(path) for path in sorted(Path(sys.argv[1]).glob("*.npz"))}))
