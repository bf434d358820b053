"""A plant's own training, as its data scientists would have it: labelled rows in, a joblib out.

Run with ``rows.csv`` in the working directory. ``how`` there says what the plant gets wrong.
"""

import csv
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier

COLUMNS = ("flow", "temp", "pressure", "vibration")

how = Path("how").read_text().strip()
with Path("rows.csv").open(newline="") as file:
    table = [row for row in csv.DictReader(file) if row["label"]]
x = np.array([[float(row[name]) for name in COLUMNS] for row in table], np.float32)
y = np.array([row["label"] for row in table])
match how:
    case "with care":
        pass
    case "on one pump only":
        first = np.array([row["device"] == "pump-1" for row in table])
        x, y = x[first], y[first]
    case "with labels out of step":
        y = np.roll(y, 1)
    case _:
        raise SystemExit(f"how: {how!r}?")
forest = RandomForestClassifier(20, max_depth=6, min_samples_leaf=5, random_state=1).fit(x, y)
joblib.dump(forest, "pump.joblib")
print(f"trained {how} on {len(x)} rows")
