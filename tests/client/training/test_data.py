"""`muster baseline fit` from Parquet: real files, column by column."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, OperatorError
from muster_protocol.signals import baseline


def fit(data: Path, out: Path) -> Any:
    ended = CliRunner().invoke(app, ["baseline", "fit", str(data), "-o", str(out), "--json"])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return json.loads(ended.stdout)


def parquet(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file, row_group_size=40)
    return file


def test_a_baseline_is_fitted_from_a_parquet_file_column_by_column(tmp_path: Path) -> None:
    data = parquet(
        tmp_path / "train.parquet",
        flow=pa.array([None if i % 10 == 0 else i / 10 for i in range(200)], pa.float64()),
        running=pa.array([i % 3 == 0 for i in range(200)]),
        recipe=pa.array([None if i == 7 else f"r{i % 4}" for i in range(200)]).dictionary_encode(),
        spectrum=pa.array([[i, 2 * i, 3 * i] for i in range(200)], pa.list_(pa.int16(), 3)),
    )
    out = tmp_path / "baseline.bin"
    fit(data, out)
    fitted = baseline.decode(out.read_bytes())
    features = [(feature.name, feature.kind, feature.source.tensor) for feature in fitted.features]
    assert features == [
        ("flow", "numeric", "input"),
        ("running", "boolean", "input"),
        ("recipe", "categorical", "recipe"),
        *((f"spectrum[{i}]", "numeric", "spectrum") for i in range(3)),
    ]
    assert [bins.nulls for bins in fitted.bins] == [20, 0, 1, 0, 0, 0]
    assert set(fitted.bins[2].categories) == {"r0", "r1", "r2", "r3"}


def test_the_same_numbers_give_the_same_baseline_from_every_kind_of_file(tmp_path: Path) -> None:
    table = np.random.default_rng(3).normal(size=(90, 2)).astype(np.float32)
    lines = "\n".join(",".join(map(repr, row)) for row in table.tolist())
    (tmp_path / "train.csv").write_text(f"a,b\n{lines}\n")
    parquet(tmp_path / "train.parquet", a=table[:, 0], b=table[:, 1])
    files = [tmp_path / "train.csv", tmp_path / "train.parquet"]
    assert len({fit(file, tmp_path / "b.bin")["sha256"] for file in files}) == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)])}, "column 'at' is of type timestamp"),
        ({"wave": pa.array([[1.0], [1.0, 2.0]])}, "column 'wave' has lists of different lengths"),
        ({"a": pa.array([], pa.float32())}, "no row of data"),
    ],
)
def test_what_a_parquet_file_has_wrong_is_named_by_column(
    tmp_path: Path, columns: dict[str, Any], says: str
) -> None:
    data = parquet(tmp_path / "train.parquet", **columns)
    with pytest.raises(OperatorError, match=says) as refused:
        fit(data, tmp_path / "b.bin")
    assert refused.value.code == Exit.USAGE
    assert not (tmp_path / "b.bin").exists()


def test_a_file_that_is_no_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"not a table")
    with pytest.raises(OperatorError, match=r"train\.parquet: Parquet"):
        fit(tmp_path / "train.parquet", tmp_path / "b.bin")
