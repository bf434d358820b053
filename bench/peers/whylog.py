"""whylogs profiles on a window given as .npy; prints JSON."""

import json
import sys
import zlib

import numpy as np
import pandas as pd
import whylogs
from timing import best

rows = np.load(sys.argv[1])
frame = pd.DataFrame(rows, columns=[f"x{i}" for i in range(rows.shape[1])])
view = whylogs.log(frame).view()
other = whylogs.log(frame).view()
payload = view.serialize()
print(
    json.dumps(
        {
            "fold_values_per_second": rows.size / best(lambda: whylogs.log(frame), repeats=3),
            "merge_microseconds": best(lambda: view.merge(other), repeats=3) * 1e6,
            "bytes_per_feature": len(payload) / rows.shape[1],
            "bytes_per_feature_compressed": len(zlib.compress(payload, 9)) / rows.shape[1],
        }
    )
)
