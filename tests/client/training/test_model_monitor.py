"""What SageMaker Model Monitor wrote of training data becomes a baseline, as far as it goes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import WrongUsage
from muster_client.training.model_monitor import import_statistics
from muster_protocol.signals import baseline, features

ROWS = 20_000
RAW = np.random.default_rng(7).gamma(2.0, 3.0, size=(ROWS, 2))


def sketch(values: Any) -> list[list[float]]:
    """Levels whose items stand for 1, 2, 4, … rows, as a KLL sketch has them."""
    ordered, levels = np.sort(values), []
    for level in range(4):
        taken = ordered[level::8] if level < 3 else ordered[7::8]
        levels.append(taken[:: 2**level].tolist())
    present = sum(2**level * len(items) for level, items in enumerate(levels))
    levels[0] += ordered[:: max(len(ordered) // (len(ordered) - present), 1)].tolist()
    return levels


def column(name: str, values: Any, *, sketched: bool = True, missing: int = 0) -> dict[str, Any]:
    counts, edges = np.histogram(values, bins=10)
    kll = {
        "buckets": [
            {"lower_bound": low, "upper_bound": high, "count": float(count)}
            for low, high, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
        ],
        "sketch": {
            "parameters": {"c": 0.64, "k": 2048.0},
            "data": sketch(values) if sketched else [],
        },
    }
    return {
        "name": name,
        "inferred_type": "Fractional",
        "numerical_statistics": {
            "common": {"num_present": len(values), "num_missing": missing},
            "mean": float(values.mean()), "sum": float(values.sum()),
            "std_dev": float(values.std()), "min": float(values.min()), "max": float(values.max()),
            "distribution": {"kll": kll},
        },
    }  # fmt: skip


TEXT = {
    "name": "line", "inferred_type": "String",
    "string_statistics": {"common": {"num_present": ROWS, "num_missing": 0}, "distinct_count": 2.0},
}  # fmt: skip


def written(folder: Path, columns: list[dict[str, Any]], name: str = "statistics.json") -> Path:
    file = folder / name
    file.write_text(
        json.dumps({"version": 0.0, "dataset": {"item_count": ROWS}, "features": columns})
    )
    return file


def test_a_baseline_of_a_sketch_is_close_to_that_of_the_rows(tmp_path):
    file = written(tmp_path, [column("flow", RAW[:, 0], missing=12), column("level", RAW[:, 1])])
    made, note = import_statistics(file, tmp_path / "baseline.bin")
    true = baseline.fit({"input": RAW.astype(np.float32)}, features.elements("input", 2))
    assert baseline.decode((tmp_path / "baseline.bin").read_bytes()).digest == made.digest
    assert [feature.name for feature in made.features] == ["flow", "level"]
    assert (made.bins[0].rows, made.bins[0].nulls) == (ROWS, 12)
    assert made.bins[0].mean == pytest.approx(RAW[:, 0].mean())
    assert made.bins[0].std == pytest.approx(RAW[:, 0].std())
    for ours, theirs in zip(made.edges, true.edges, strict=True):
        below = [np.mean(RAW[:, 0] < edge) for edge in theirs]
        assert np.abs(np.interp(ours, theirs, below) - below)[1:-1].max() < 0.02
    assert "order" in note


def test_without_a_sketch_the_buckets_do(tmp_path):
    file = written(tmp_path, [column("flow", RAW[:, 0], sketched=False)])
    made, _ = import_statistics(file, tmp_path / "baseline.bin")
    middle = made.edges[0][len(made.edges[0]) // 2]
    assert np.mean(RAW[:, 0] < middle) == pytest.approx(0.5, abs=0.05)


def test_columns_are_taken_in_the_models_order_and_others_are_left(tmp_path):
    file = written(tmp_path, [column("a", RAW[:, 0]), TEXT, column("b", RAW[:, 1])])
    made, _ = import_statistics(file, tmp_path / "out.bin", columns=["b", "a"], tensor="x")
    assert [(feature.name, feature.source.index) for feature in made.features] == [
        ("b", 0),
        ("a", 1),
    ]
    assert made.bins[0].mean == pytest.approx(RAW[:, 1].mean())


@pytest.mark.parametrize(
    ("columns", "asked", "words"),
    [
        ([column("a", RAW[:, 0]), TEXT], [], "'line' is String, not a number"),
        ([column("a", RAW[:, 0])], ["c"], "no column 'c', but a"),
        ([column("a", RAW[:, 0]), column("a", RAW[:, 1])], ["a", "a"], "listed twice"),
        ([column("a", RAW[:, 0]) | {"numerical_statistics": {"common": {}}}], [], "Model Monitor"),
    ],
)  # fmt: skip
def test_what_is_no_statistics_of_numbers_is_refused_and_nothing_is_written(
    tmp_path, columns, asked, words
):
    file = written(tmp_path, columns)
    with pytest.raises(WrongUsage, match=words):
        import_statistics(file, tmp_path / "baseline.bin", columns=asked)
    assert not (tmp_path / "baseline.bin").exists()


def test_damaged_numbers_are_refused_by_name(tmp_path):
    damaged = column("a", RAW[:, 0])
    for change in (
        {"mean": 1e300}, {"min": 5.0, "max": 1.0}, {"std_dev": -1.0},
        {"common": {"num_present": 0, "num_missing": 1}}, {"distribution": {}},
    ):  # fmt: skip
        wrong = damaged | {"numerical_statistics": damaged["numerical_statistics"] | change}
        with pytest.raises(WrongUsage, match=r"statistics\.json"):
            import_statistics(written(tmp_path, [wrong]), tmp_path / "baseline.bin")


def test_the_command_checks_the_constraints_and_says_what_is_lost(tmp_path):
    file = written(tmp_path, [column("flow", RAW[:, 0])])
    same = [{"name": "flow", "inferred_type": "Fractional", "completeness": 1.0}]
    constraints = written(tmp_path, same, "constraints.json")
    out = tmp_path / "baseline.bin"
    arguments = ["baseline", "import", str(file), "--constraints", str(constraints), "-o", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["features"][0]["feature"] == "flow"
    assert said["in_time"] is None
    assert said["note"]
    written(tmp_path, [same[0] | {"inferred_type": "Integral"}], "constraints.json")
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code != 0
    assert isinstance(refused.exception, WrongUsage)
    assert "two runs" in str(refused.exception)
