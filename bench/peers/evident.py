"""Evidently's default drift test on windows without drift (.npz of training and windows)."""

import json
import sys
import time

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

data = np.load(sys.argv[1])
results = {}
for name in data.files:
    if name == "training":
        continue
    windows = data[name]
    columns = [f"x{i}" for i in range(windows.shape[2])]
    reference = pd.DataFrame(data["training"], columns=columns)
    drifted = 0
    begun = time.perf_counter()
    for window in windows:
        result = Report([DataDriftPreset()]).run(pd.DataFrame(window, columns=columns), reference)
        counted = next(m for m in result.dict()["metrics"] if "DriftedColumns" in str(m))
        drifted += counted["value"]["count"] > 0
    results[name] = {
        "windows": len(windows),
        "windows_flagged": drifted / len(windows),
        "values_per_second": windows.size / (time.perf_counter() - begun),
    }
print(json.dumps(results))
