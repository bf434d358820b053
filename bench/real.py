"""Drift on real signals: Muster's own device code over a folder of runs, beside its peers.

    python -m bench real DIR [--parts runs,faults] [--peers all|none|NAME,…] [--seed N]

DIR holds ``index.json`` and a CSV a run (``bench/real_data.py`` says how; so does docs/drift.md).
Writes ``bench/results/real.json``, the tables in ``docs/drift.md`` and ``bench/README.md`` and two
plots in ``docs/``. Nothing is set per data set. Evidently runs in an environment of its own that is
made on the first run.
"""

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import real_data, real_faults, real_muster, real_report, real_rules
from bench.real_data import Run
from bench.real_score import Score, findings, scored
from bench.signals_peers import run as run_peer

RESULTS = Path(__file__).parent / "results" / "real.json"
MUSTER, MUSTER_OLD, EVIDENTLY = "Muster", "Muster, baseline out of order", "Evidently, default"
PEERS = (*real_rules.PEERS, EVIDENTLY)
PARTS = ("runs", "faults")
SEED = 20_240_601


def lived(run: Run, peers: tuple[str, ...]) -> dict[str, Any]:
    """One run under every rule."""
    life = real_muster.live(run)
    scores = {MUSTER: scored(life.opened, life.standing, run.events)}
    old = real_muster.live(run, in_time=False)
    scores[MUSTER_OLD] = scored(old.opened, old.standing, run.events)
    for name in peers:
        if name != EVIDENTLY:
            scores[name] = scored(*real_rules.PEERS[name](run), run.events)
    print(f"{run.set} {run.name}: {scores[MUSTER].row()}", flush=True)
    return {
        "set": run.set,
        "run": run.name,
        "group": run.group,
        "windows": len(run.windows),
        "window_seconds": run.window_seconds,
        "training_windows": len(run.training) // run.rows,
        "agreed": life.agreed,
        "calibrated_after_windows": life.calibrated,
        "not_calibrated": life.open_features,
        "bytes_per_feature": life.bytes_per_feature,
        "findings": [
            [number, found.feature, found.statistic, found.direction, found.fault]
            for number, found in life.findings[:20]
        ],
        "scores": {name: vars(score) for name, score in scores.items()},
    }


def compared(
    runs: list[Run], peers: tuple[str, ...], evidently_minutes: float
) -> list[dict[str, Any]]:
    """Every run under every rule."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        rows = list(pool.imap(partial(lived, peers=peers), runs))
    if EVIDENTLY in peers:
        for run, row, flags in zip(runs, rows, evidently(runs, evidently_minutes), strict=True):
            if flags is not None:
                verdict = findings(np.array(flags, np.bool_)[:, None])
                row["scores"][EVIDENTLY] = vars(scored(*verdict, run.events))
    return rows


def kept(rows: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """Peers that weren't run now keep what they scored before on the same windows."""
    scored_before = {(run["set"], run["run"], run["windows"]): run["scores"] for run in before}
    for run in rows:
        scores = scored_before.get((run["set"], run["run"], run["windows"]), {})
        for name in scores:
            run["scores"].setdefault(name, scores[name])


def evidently(runs: list[Run], minutes: float) -> list[list[bool] | None]:
    """Flags of each run's windows, all from one process: it takes long to begin. None for a run
    that wasn't reached in time."""
    with tempfile.TemporaryDirectory() as folder:
        for number, run in enumerate(runs):
            categories = np.array([feature.kind != "numeric" for feature in run.features])
            np.savez(
                Path(folder) / f"{number:05}.npz", training=run.training, windows=run.windows,
                categories=categories,
            )  # fmt: skip
        flags = run_peer("evidently", "evident_real.py", folder, str(60 * minutes))
    return [flags.get(f"{number:05}") for number in range(len(runs))]


def rows_of(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each group of runs and rule."""
    names = {run["group"] for run in runs}
    groups = sorted(names, key=lambda name: (name != real_data.QUIET, name))
    rows = []
    for group in groups:
        for rule in dict.fromkeys(rule for run in runs for rule in run["scores"]):
            scores = [run["scores"].get(rule) for run in runs if run["group"] == group]
            total = sum((Score(**score) for score in scores if score), Score())
            counted = {"runs": sum(score is not None for score in scores), "of_runs": len(scores)}
            if counted["runs"]:
                rows.append({"group": group, "rule": rule} | counted | total.row())
    return rows


def injected(runs: list[Run], seed: int) -> dict[str, Any]:
    """Faults put into what is quiet: real runs, and independent rows."""
    rng = np.random.default_rng(seed)
    bases = [real_faults.simulated(rows, rng) for rows in (20, 300)]
    bases += [run for run in runs if run.group == real_data.QUIET]
    curve: list[dict[str, Any]] = []
    for base in bases:
        curve += real_faults.measured(base, seed)
        print(f"faults in {base.set} {base.name}", flush=True)
    return {"curve": curve, "young": real_faults.young(bases[0], seed)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench real", description=__doc__)
    parser.add_argument("folder", type=Path, help="index.json and the runs it names")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--peers", default="all", help="all, none, or names divided by commas")
    parser.add_argument(
        "--evidently-minutes", type=float, default=60.0, help="no other run is begun after them"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    peers = {"all": PEERS, "none": ()}.get(options.peers, tuple(options.peers.split(",")))
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no peer {', '.join(sorted(unknown))}: one of {', '.join(PEERS)}")
    try:
        runs = list(real_data.read(options.folder))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    results["machine"] = {
        "processor": platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()[0],
        "python": platform.python_version(), "numpy": np.__version__,
    }  # fmt: skip
    parts = options.parts.split(",")
    if "runs" in parts:
        before = results.get("runs", [])
        results["runs"] = compared(runs, peers, options.evidently_minutes)
        kept(results["runs"], before)
        results["rows"] = rows_of(results["runs"])
    if "faults" in parts:
        results["seed"] = options.seed
        results["faults"] = injected(runs, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    for line in real_report.table(results):
        print(line)
    if options.out == RESULTS:
        real_report.write(results)
