"""Write the frozen summary fixtures from today's code: ``python tests/golden/write_summary.py``.

Run it only for a new version of the format; the files of old versions stay and must stay readable.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from muster_protocol.signals import baseline, summary_wire  # noqa: E402 the path comes first
from muster_protocol.signals.summary import Summary  # noqa: E402 the path comes first
from support.summaries import fitted, window  # noqa: E402 the path comes first


def main() -> None:
    payload = summary_wire.encode(window(3000, seed=42, nulls=0.01))
    decoded = summary_wire.decode(payload, fitted())
    assert isinstance(decoded, Summary)
    assert decoded.features is not None
    expected = {
        "baseline": fitted().digest,
        "counts": list(decoded.counts.values()),
        "latency_bins": decoded.latency.nonzero()[0].tolist(),
        "bins": decoded.features.bins.tolist(),
        "nulls": decoded.features.nulls.tolist(),
        "total": decoded.features.total.tolist(),
        "squares": decoded.features.squares.tolist(),
        "low": decoded.features.low[:2].tolist(),
        "confusion": [[list(pair), n] for pair, n in sorted(decoded.confusion.items())],
    }
    (HERE / "summary_baseline_v1.bin").write_bytes(baseline.encode(fitted()))
    (HERE / "summary_v1.bin").write_bytes(payload)
    (HERE / "summary_v1.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
