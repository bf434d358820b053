"""`muster baseline fit` on rows in their order: what it learns and what it says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import Result
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, OperatorError
from muster_protocol.signals import baseline

START = datetime(2026, 1, 5, tzinfo=UTC)


def fit(data: Path, *options: str) -> Result:
    out = data.with_suffix(".bin")
    return CliRunner().invoke(app, ["baseline", "fit", str(data), "-o", str(out), *options])


def written(file: Path, rows: int, *, step: timedelta = timedelta(seconds=30)) -> Path:
    rng = np.random.default_rng(0)
    level = np.cumsum(rng.normal(0, 0.05, rows))
    lines = [
        f"{(START + i * step).isoformat()},{20 + rng.normal():.4f},{level[i]:.4f},{i // 400 % 2}"
        for i in range(rows)
    ]
    file.write_text("\n".join(["when,temperature,level,recipe", *lines]) + "\n")
    return file


def test_rows_in_order_teach_how_windows_differ_and_from_which_shift_on_drift_is_found(
    tmp_path: Path,
) -> None:
    data = written(tmp_path / "train.csv", 3200)
    ended = fit(data, "--time", "when", "--context", "recipe", "--json")
    assert ended.exit_code == 0, ended.output
    answer = json.loads(ended.stdout)
    assert answer["in_time"] == {
        "windows": 320, "window_rows": 10, "window_seconds": 300.0, "seasonal": False,
        "regimes": [0, 1],
    }  # fmt: skip
    by_name = {row["feature"]: row for row in answer["features"]}
    assert set(by_name) == {"temperature", "level", "recipe"}, "the time is no feature"
    assert 0 < by_name["temperature"]["found_from"] < 5
    assert by_name["temperature"]["wanders"] is None
    assert by_name["level"]["wanders"] > 0
    assert baseline.decode((tmp_path / "train.bin").read_bytes()).normal is not None


def test_rows_are_put_in_order_of_their_time(tmp_path: Path) -> None:
    data = written(tmp_path / "train.csv", 800)
    head, *lines = data.read_text().splitlines()
    mixed = tmp_path / "mixed.csv"
    mixed.write_text("\n".join([head, *sorted(lines, key=hash)]) + "\n")
    first, second = (fit(file, "--time", "when", "--json") for file in (data, mixed))
    assert json.loads(first.stdout)["sha256"] == json.loads(second.stdout)["sha256"]


def test_a_parquet_files_timestamps_are_its_rows_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    when = pa.array(
        [START + i * timedelta(minutes=1) for i in range(400)], pa.timestamp("us", "UTC")
    )
    data = tmp_path / "train.parquet"
    pq.write_table(pa.table({"when": when, "flow": rng.normal(size=400)}), data)
    answer = json.loads(fit(data, "--time", "when", "--json").stdout)
    assert answer["in_time"]["window_rows"] == 5
    assert [row["feature"] for row in answer["features"]] == ["flow"]


def test_few_rows_or_shuffled_ones_say_what_is_lost(tmp_path: Path) -> None:
    short = fit(written(tmp_path / "short.csv", 100), "--time", "when")
    assert "does not know the order" in " ".join(short.output.split())
    long = fit(written(tmp_path / "long.csv", 3200), "--time", "when", "--shuffled", "--json")
    assert json.loads(long.stdout)["in_time"] is None
    assert json.loads(long.stdout)["note"]


def test_four_weeks_of_hours_are_learnt_as_a_week(tmp_path: Path) -> None:
    data = written(tmp_path / "train.csv", 5 * 7 * 24, step=timedelta(hours=1))
    ended = fit(data, "--time", "when", "--window-seconds", "3600")
    assert "the usual week: yes" in " ".join(ended.output.split())


def test_a_row_without_a_time_and_a_column_that_is_not_there_are_named(tmp_path: Path) -> None:
    data = tmp_path / "train.csv"
    data.write_text("when,flow\n2026-01-05,1\n,2\n")
    assert "row 2 has no 'when'" in str(fit(data, "--time", "when").exception)
    refused = fit(data, "--time", "clock").exception
    assert isinstance(refused, OperatorError)
    assert refused.code == Exit.USAGE
    assert "no column 'clock'" in str(refused)
