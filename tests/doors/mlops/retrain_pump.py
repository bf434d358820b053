"""The DAG that the story's loop starts: rows, a training, a push, the candidate named."""

import json
import os
import subprocess
from pathlib import Path

from airflow.sdk import dag, get_current_context, task

HOME = Path(os.environ["PUMP_HOME"])
MUSTER = os.environ["MUSTER"]
TRAINING = os.environ | {"PYTHONPATH": os.environ["TRAINING_PYTHONPATH"]}


def run(*words):
    done = subprocess.run(
        words, cwd=HOME, env=TRAINING, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with code {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


@dag(schedule=None, catchup=False)
def retrain_pump():
    @task
    def retrain():
        (policy,) = json.loads(run(MUSTER, "sampling", "list", "--limit", "1", "--json"))
        run(MUSTER, "sampling", "download", str(policy["id"]), "-o", "rows.csv")
        run(os.environ["TRAINING_PYTHON"], "train_pump.py")

        loop = get_current_context()["dag_run"].conf["loop"]
        made = run(
            MUSTER, "model", "push", "pump.joblib", "--trust-pickle", "--name", "pump",
            "--data", "rows.csv", "--labels", "label", "--group", "device", "--drop", "sha256",
            "--drop", "stratum", "--window-rows", "20", "--window-seconds", "2",
            "--probation-seconds", "1", "--sampling", "sampling.toml", "--card", "card.toml",
            "--source", f"loop {loop}", "--no-wait", "--json",
        )  # fmt: skip
        # What the hub's gates say of it is the loop's to wait for, and to tell.
        run(MUSTER, "loop", "candidate", str(loop), json.loads(made)["version"])

    retrain()


retrain_pump()
