"""`muster baseline fit`: training data in, the file that a bundle carries out."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, WrongUsage
from muster_protocol.signals import baseline


def test_a_baseline_is_fitted_from_a_csv(tmp_path: Path) -> None:
    data, out = tmp_path / "train.csv", tmp_path / "baseline.bin"
    rows = "\n".join(f"{i / 10},{i % 7 or ''}" for i in range(200))
    data.write_text(f"flow,pressure\n{rows}\n")
    ended = CliRunner().invoke(app, ["baseline", "fit", str(data), "-o", str(out), "--json"])
    assert ended.exit_code == 0, ended.output
    fitted = json.loads(ended.stdout)
    assert [feature["feature"] for feature in fitted["features"]] == ["flow", "pressure"]
    assert fitted["features"][1]["nulls"] == 29
    assert baseline.decode(out.read_bytes()).digest == fitted["sha256"]


def test_a_baseline_of_images_and_scores_is_fitted_from_an_npz(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    data, out = tmp_path / "train.npz", tmp_path / "baseline.bin"
    scores = random.dirichlet(np.ones(3), 100).astype(np.float32)
    np.savez(data, frame=random.random((100, 8, 8), np.float32), scores=scores)
    options = ["--image", "frame=8x8", "--classifier", "scores", "-o", str(out)]
    ended = CliRunner().invoke(app, ["baseline", "fit", str(data), *options])
    assert ended.exit_code == 0, ended.output
    names = [feature.name for feature in baseline.decode(out.read_bytes()).features]
    assert names == [
        "frame.brightness", "frame.contrast", "frame.sharpness", "scores.class",
        "scores.confidence",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3\n", "line 3 has 1 values, the header names 2"),
        ("a\n1\n2\nx\n", "line 4: 'x' is not a number"),
        ("a\n", "no row of data"),
    ],
)
def test_a_bad_csv_is_named_by_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "train.csv").write_text(text)
    out = tmp_path / "baseline.bin"
    ended = CliRunner().invoke(
        app, ["baseline", "fit", str(tmp_path / "train.csv"), "-o", str(out)]
    )
    assert isinstance(ended.exception, WrongUsage)
    assert ended.exception.code == Exit.USAGE
    assert says in str(ended.exception)
    assert not out.exists()
