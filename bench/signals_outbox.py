"""Ninety days without a link: what an outbox of 32 MiB keeps, and whether the totals are exact."""

import sqlite3
import time
from typing import Any

import numpy as np
from bench.signals_speed import FEATURES

from muster_agent.observe.outbox import Outbox
from muster_protocol import PROTOCOL_VERSION
from muster_protocol.signals import baseline, binning, features, summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import limits
from muster_protocol.wire.messages import Ack, Stamp

WINDOW_SECONDS = 300
WINDOWS_PER_DAY = 288
ROWS = 300
DISTINCT = 64
"""Windows whose counts differ; they are used in turn."""


def ninety_days(
    seed: int, *, days: int = 90, bytes_max: int = limits.OUTBOX_BYTES_MAX
) -> dict[str, Any]:
    """Fill, then reconnect and drain; raises AssertionError when a total is not exact."""
    rng = np.random.default_rng(seed)
    trained = baseline.fit(
        {"x": rng.normal(size=(50_000, FEATURES))}, features.elements("x", FEATURES)
    )
    distinct = [
        binning.count(trained, {"x": rng.normal(size=(ROWS, FEATURES)).astype(np.float32)})
        for _ in range(DISTINCT)
    ]
    connection = sqlite3.connect(":memory:", isolation_level=None)
    outbox = Outbox(connection, bytes_max=bytes_max)
    windows = days * WINDOWS_PER_DAY
    fed = np.zeros_like(distinct[0].bins)
    slowest, begun = 0.0, time.perf_counter()
    connection.execute("BEGIN")
    for number in range(windows):
        opened, closed = (
            Stamp(b"boot", at, 1e9 + at, "synchronised")
            for at in (number * WINDOW_SECONDS, (number + 1) * WINDOW_SECONDS)
        )
        counted = distinct[number % DISTINCT]
        fed += counted.bins
        put = time.perf_counter()
        outbox.put_summary(
            Summary("pump", "1", "aa" * 32, opened, closed, counts=Tally(inferences=ROWS),
                    features=counted)
        )  # fmt: skip
        slowest = max(slowest, time.perf_counter() - put)
    connection.execute("COMMIT")
    seconds, stats = time.perf_counter() - begun, outbox.stats()
    size = connection.execute("SELECT page_count * page_size FROM pragma_page_count, "
                              "pragma_page_size").fetchone()[0]  # fmt: skip
    assert stats.bytes <= bytes_max
    got, inferences, merged_windows, rows = np.zeros_like(fed), 0, 0, 0
    while (item := outbox.next(0.0, Stamp(b"boot", 0.0, 0.0, "unknown"))) is not None:
        stream, batch = item
        for row in batch.rows:
            made = summary_wire.decode(row.payload, trained)
            assert isinstance(made, Summary)
            assert made.features is not None
            got += made.features.bins
            inferences += made.counts.inferences
            merged_windows += made.windows
            rows += 1
        outbox.acknowledge(Ack(PROTOCOL_VERSION, stream, batch.epoch, batch.rows[-1].sequence))
    assert (got == fed).all(), "bins were lost or doubled"
    assert (inferences, merged_windows) == (windows * ROWS, windows)
    return {
        "days": days,
        "windows": windows,
        "features": FEATURES,
        "bytes_max": bytes_max,
        "bytes": stats.bytes,
        "database_bytes": size,
        "rows_sent": rows,
        "windows_per_row": windows / rows,
        "merges": stats.merged,
        "dropped": stats.dropped_summaries,
        "inferences_sent": windows * ROWS,
        "inferences_counted": inferences,
        "fill_seconds": seconds,
        "slowest_put_seconds": slowest,
    }
