"""`make bench-real` on a folder somebody brings, and how rules are scored there."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from bench import real, real_data, real_score
from bench.real_rules import Adwin, PageHinkley


def folder(path: Path, *, event: str = "event") -> Path:
    """One run: 400 training rows, then 400 in which a feature is off in the middle."""
    rng = np.random.default_rng(0)
    x = rng.normal([20, 5], [1, 0.1], size=(800, 2))
    wrong = np.zeros(800, int)
    wrong[600:700] = 1
    x[600:700, 0] += 4
    with gzip.open(path / "pump-1.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["temperature", "pressure", event])
        for place, (row, label) in enumerate(zip(x.tolist(), wrong.tolist(), strict=True)):
            writer.writerow(["" if place == 5 else row[0], row[1], label])
    entry = {
        "set": "pumps", "run": "pump-1", "file": "pump-1.csv.gz", "rows_per_window": 10,
        "train_rows": 400, "window_seconds": 300,
    }  # fmt: skip
    (path / "index.json").write_text(json.dumps([entry]))
    return path


def test_a_folder_of_runs_is_scored_and_written(tmp_path: Path) -> None:
    out = tmp_path / "real.json"
    real.main([str(folder(tmp_path)), "--parts", "runs", "--peers", "T² chart", "--out", str(out)])
    results = json.loads(out.read_text())
    by_rule = {row["rule"]: row for row in results["rows"]}
    assert by_rule["Muster"]["found"] == by_rule["Muster"]["events"] == 1
    assert by_rule["Muster"]["openings"] == 0
    assert set(by_rule) == {"Muster", "Muster, baseline out of order", "T² chart"}
    (run,) = results["runs"]
    assert run["agreed"] == run["windows"] == 40


def test_peers_that_are_not_run_again_keep_what_they_scored(tmp_path: Path) -> None:
    out = tmp_path / "real.json"
    runs = [str(folder(tmp_path)), "--parts", "runs", "--out", str(out)]
    real.main([*runs, "--peers", "T² chart"])
    before = json.loads(out.read_text())
    real.main([*runs, "--peers", "none"])
    assert json.loads(out.read_text())["rows"] == before["rows"]


def test_a_run_without_its_column_of_events_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        real.main([str(folder(tmp_path, event="label")), "--out", str(tmp_path / "real.json")])
    assert "pump-1" in capsys.readouterr().err
    (run,) = real_data.read(folder(tmp_path))
    assert run.training.shape == (400, 2)


def test_an_event_is_found_only_by_what_is_new_in_it() -> None:
    events = np.array([0, 0, 1, 1, 0, 1, 1, 0], np.bool_)
    opened = np.array([0, 1, 0, 0, 0, 0, 1, 0], np.bool_)
    standing = np.array([0, 1, 1, 1, 1, 1, 1, 0], np.bool_)
    row = real_score.scored(opened, standing, events).row()
    assert (row["events"], row["found"], row["median_delay"]) == (2, 1, 2.0)
    assert (row["normal_windows"], row["openings"], row["standing"]) == (4, 1, 0.5)


def test_peers_findings_stand_until_they_were_silent_for_three_windows() -> None:
    flags = np.array([1, 0, 0, 1, 0, 0, 0, 1], np.bool_)[:, None]
    opened, standing = real_score.findings(flags)
    assert opened.tolist() == [True] + [False] * 6 + [True]
    assert standing.tolist() == [True, True, True, True, True, True, False, True]


@pytest.mark.parametrize("begun", [Adwin, PageHinkley])
def test_peers_of_rows_fire_on_a_step_and_hardly_before(begun: type) -> None:
    rng, detector = np.random.default_rng(1), begun()
    calm = [detector.add(value) for value in rng.normal(size=1000).tolist()]
    step = [detector.add(value) for value in rng.normal(2, 1, size=400).tolist()]
    assert sum(calm) <= 1
    assert any(step)
