"""Apache DataSketches' vector of KLL sketches on a window given as .npy; prints JSON."""

import json
import sys
import zlib

import datasketches
import numpy as np
from timing import best

rows = np.load(sys.argv[1])
count, features = rows.shape


def sketched(batch: int) -> datasketches.vector_of_kll_floats_sketches:
    sketches = datasketches.vector_of_kll_floats_sketches(200, features)
    for begin in range(0, count, batch):
        sketches.update(rows[begin : begin + batch])
    return sketches


first, other = sketched(count), sketched(count)
payload = b"".join(first.serialize())


def merge() -> None:
    sketched_again = datasketches.vector_of_kll_floats_sketches(200, features)
    sketched_again.merge(first)
    sketched_again.merge(other)


print(
    json.dumps(
        {
            "fold_values_per_second": rows.size / best(lambda: sketched(count)),
            "fold_by_row_values_per_second": rows.size / best(lambda: sketched(1), repeats=3),
            "merge_microseconds": best(merge) / 2 * 1e6,
            "bytes_per_feature": len(payload) / features,
            "bytes_per_feature_compressed": len(zlib.compress(payload, 9)) / features,
        }
    )
)
