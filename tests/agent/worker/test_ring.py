"""The ring: every published row once, never half a one, and losses are counted."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_agent.worker import barrier
from muster_agent.worker.ring import Ring, RingError, RingLayout, RingReader
from muster_agent.worker.rows import ErrorKind, Quality, RowKind, row_id
from muster_protocol.wire.manifest import Tensor

LAYOUT = RingLayout(
    manifest="ab" * 32,
    inputs=(Tensor("x", "FP32", (-1, 2)), Tensor("n", "INT64", (-1,))),
    outputs=(Tensor("y", "FP64", (-1, 3)),),
)


def put(ring: Ring, number: int) -> None:
    x = np.full(2, number, np.float32).tobytes()
    n, y = struct.pack("<q", number), np.full(3, number, np.float64).tobytes()
    ring.append(
        number, number, RowKind.INFERENCE, ErrorKind.NONE, Quality.GOOD, b"%d" % number, x, n, y
    )


def check_rows(ring: Ring, rows: np.ndarray, first: int) -> None:
    """Each row is whole: its number stands in every field."""
    numbers = np.arange(first, first + len(rows))
    np.testing.assert_array_equal(rows["monotonic_ns"], numbers)
    np.testing.assert_array_equal(rows["id"], [b"%d" % number for number in numbers])
    inputs, outputs = ring.layout.input_arrays(rows), ring.layout.output_arrays(rows)
    np.testing.assert_array_equal(inputs["x"], np.repeat(numbers, 2).reshape(-1, 2))
    np.testing.assert_array_equal(inputs["n"], numbers)
    np.testing.assert_array_equal(outputs["y"], np.repeat(numbers, 3).reshape(-1, 3))


@settings(max_examples=60)
@given(
    capacity=st.integers(1, 9),
    turns=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 20)), max_size=12),
)
def test_a_reader_gets_every_row_once_or_hears_that_it_is_lost(
    tmp_path_factory: pytest.TempPathFactory, capacity: int, turns: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("ring") / "r.ring"
    with Ring.create(path, LAYOUT, capacity) as writer, RingReader(path) as reader:
        written = cursor = seen = lost = 0
        for count, rows_max in turns:
            for _ in range(count):
                put(writer, written)
                written += 1
            rows, cursor, overrun = reader.read(cursor, rows_max)
            lost += overrun
            check_rows(reader, rows, cursor - len(rows))
            seen += len(rows)
            assert cursor == seen + lost
        while cursor < written:
            rows, cursor, overrun = reader.read(cursor)
            lost += overrun
            seen += len(rows)
        assert seen + lost == written == reader.published


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ring import put
from muster_agent.worker.ring import Ring
ring = Ring(Path(sys.argv[1]))
number = 0
while True:
    put(ring, number)
    number += 1
"""


def test_rows_read_while_another_process_writes_are_whole_and_outlive_its_death(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.ring"
    Ring.create(path, LAYOUT, 64).close()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)])
    try:
        with RingReader(path) as reader:
            cursor = lost = seen = 0
            while seen < 20_000:
                rows, cursor, overrun = reader.read(cursor)
                check_rows(reader, rows, cursor - len(rows))
                seen += len(rows)
                lost += overrun
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
            rows, cursor, overrun = reader.read(cursor)
            check_rows(reader, rows, cursor - len(rows))
            assert seen + len(rows) + lost + overrun == cursor == reader.published
            assert lost > 0, "a ring of 64 rows goes round while 20,000 are read"
    finally:
        writer.kill()
        writer.wait()


def test_labels_and_errors_are_rows_too(tmp_path: Path) -> None:
    with Ring.create(tmp_path / "r.ring", LAYOUT, 10) as ring:
        put(ring, 0)
        label = "größer".encode()
        ring.append(1, 0, RowKind.LABEL, 0, 0, b"some id", label.ljust(64, b"\0"))
        ring.append(2, 9, 0, ErrorKind.RUN_FAILED, Quality.UNANSWERED, b"", bytes(16), bytes(24))
        rows = ring.read().rows
        assert rows["kind"].tolist() == [0, 1, 0]
        assert rows["error"].tolist() == [0, 0, ErrorKind.RUN_FAILED]
        assert ring.layout.labels(rows) == [(b"some id", "größer")]
        assert ring.latencies_us().tolist() == [0]


def test_rows_of_tensors_without_a_fixed_size_leave_them_out() -> None:
    layout = RingLayout(manifest="", inputs=(), outputs=())
    assert layout.row_bytes % 8 == 0
    assert RingLayout.of.__doc__
    assert layout.capacity_for(0) == 64


def test_a_ring_takes_its_space_when_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "r.ring"
    Ring.create(path, LAYOUT, 1000).close()
    stat = path.stat()
    assert stat.st_blocks * 512 >= stat.st_size
    assert stat.st_mode & 0o777 == 0o600


def test_a_new_ring_leaves_the_old_one_to_whoever_maps_it(tmp_path: Path) -> None:
    path = tmp_path / "r.ring"
    with Ring.create(path, LAYOUT, 4) as old, Ring.create(path, LAYOUT, 4) as new:
        put(old, 0)
        assert (old.published, new.published) == (1, 0)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, b"x" * 8192, b"MUSTRING" + struct.pack("<IIQQ", 9, 2, 8, 1) * 400]
)
def test_a_file_that_is_no_ring_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.ring"
    path.write_bytes(content)
    with pytest.raises(RingError, match=r"r\.ring"):
        RingReader(path)
    with pytest.raises(RingError, match="No such file"):
        RingReader(tmp_path / "missing.ring")


def test_rows_that_do_not_fit_and_rings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RingError, match="0 rows"):
        Ring.create(tmp_path / "r.ring", LAYOUT, 0)
    with pytest.raises(RingError, match="can't make the ring"):
        Ring.create(tmp_path / "no" / "r.ring", LAYOUT, 1)
    with Ring.create(tmp_path / "r.ring", LAYOUT, 1) as ring:
        with pytest.raises(ValueError, match="the ring holds"):
            ring.append(0, 0, 0, 0, 0, b"", bytes(1000))
        assert ring.published == 0


def test_a_cursor_from_another_ring_starts_again(tmp_path: Path) -> None:
    with Ring.create(tmp_path / "r.ring", LAYOUT, 8) as ring:
        put(ring, 0)
        assert len(ring.read(99).rows) == 1


@given(st.text(max_size=80), st.integers(0, 5), st.integers(1, 6))
def test_ids_fit_their_field_and_stay_apart(identifier: str, row: int, rows: int) -> None:
    made = row_id(identifier, row, rows)
    assert len(made) <= 48
    assert b"\0" not in made
    if rows == 1:
        assert made == row_id(identifier)
    else:
        assert made == row_id(f"{identifier}#{row}"), "a label names the row the same way"


def test_the_kernel_orders_memory_for_the_reader() -> None:
    assert barrier.register()
    assert barrier.synchronise()
