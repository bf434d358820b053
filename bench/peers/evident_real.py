"""Evidently's default drift tests on windows: its own choice of test and threshold per column, and
its default for the whole: drift when at least half of the columns drift. Prints JSON: flags."""

import json
import sys
import warnings

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType

DRIFT_SHARE = 0.5

warnings.simplefilter("ignore")
with np.load(sys.argv[1]) as data:
    training, windows = data["training"], data["windows"]
    kinds = [
        ColumnType.Categorical if flag else ColumnType.Numerical for flag in data["categories"]
    ]
flags = np.zeros((len(windows), training.shape[1]), bool)
for place, kind in enumerate(kinds):
    reference = pd.Series(training[:, place]).dropna()
    for number, rows in enumerate(windows[:, :, place]):
        current = pd.Series(rows).dropna()
        if len(current):
            test = get_stattest(reference, current, kind, None)
            drifted = test(reference, current, kind, None).drifted
            flags[number, place] = bool(drifted)
print(json.dumps({"flags": (flags.mean(axis=1) >= DRIFT_SHARE).tolist()}))
