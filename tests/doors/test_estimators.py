"""Estimators as their own libraries pickle them become bundles that answer as they do.

The converters and the boosting libraries are installed once into `build/convert`.
"""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest

from muster_agent.worker.startup import open_engine
from support.counterparts import converters

ROOT = Path(__file__).resolve().parents[2]
ROWS = 400
CLASSES = ("calm", "gust", "storm")
COLUMNS = ("flow", "temp", "p1", "p2")

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]

MAKE = """
import sys
import joblib, lightgbm, numpy as np, xgboost
from pathlib import Path
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

folder = Path(sys.argv[1])
x, kinds, names = (np.load(folder / f"{name}.npy") for name in ("x", "kinds", "names"))
wide = x.astype(np.float64)
made = {
    "forest": RandomForestClassifier(20, random_state=0).fit(x, names),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()).fit(x, names),
    "light": lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(x, kinds),
    "extreme": xgboost.XGBClassifier(n_estimators=10).fit(x, kinds),
    "scaled": make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=5)).fit(x, x[:, 0]),
    "ridge": Ridge().fit(x, x[:, 0]),
    "coarse": Ridge().fit(wide, wide[:, 0] * 1e9 + 1e12),
}
for name, model in made.items():
    joblib.dump(model, folder / f"{name}.joblib")
    ask = getattr(model, "predict_proba", model.predict)
    np.save(folder / f"{name}.npy", ask(x))
"""


@pytest.fixture(scope="session")
def environment():
    """Variables with which Python has the converters."""
    return os.environ | {"PYTHONPATH": str(converters())}


@pytest.fixture(scope="session")
def folder(environment, tmp_path_factory):
    made = tmp_path_factory.mktemp("estimators")
    x = np.random.default_rng(0).normal(size=(ROWS, len(COLUMNS))).astype(np.float32)
    kinds = (x[:, 0] + x[:, 1] > 0).astype(int) + (x[:, 2] > 1)
    names = np.array(CLASSES)[kinds]
    for name, array in {"x": x, "kinds": kinds, "names": names}.items():
        np.save(made / f"{name}.npy", array)
    rows = (",".join([*map(str, row.tolist()), name]) for row, name in zip(x, names, strict=True))
    (made / "train.csv").write_text("\n".join([",".join([*COLUMNS, "state"]), *rows]) + "\n")
    subprocess.run([sys.executable, "-c", MAKE, made], env=environment, check=True, timeout=300)
    return made


def pack(environment, folder: Path, name: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [Path(sys.executable).with_name("muster"), "model", "pack", folder / name]
    given = ["--data", folder / "train.csv", "--trust-pickle", "--shuffled", "-o", folder / "out"]
    return subprocess.run(
        [*command, *given, *flags], env=environment | {"COLUMNS": "1000"}, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("forest", ("--labels", "state")),
        ("logistic", ("--labels", "state")),
        ("light", ("--drop", "state")),
        ("extreme", ("--drop", "state")),
        ("ridge", ("--drop", "state")),
    ],
)
def test_an_estimator_becomes_a_bundle_that_answers_as_it_did(environment, folder, name, flags):
    done = pack(environment, folder, f"{name}.joblib", *flags)
    assert done.returncode == 0, done.stderr
    said = re.search(
        rf"In {ROWS} rows of the data its answers differ .* at most (\S+?)[,.]?\s", done.stdout
    )
    assert said is not None, done.stdout
    assert float(said[1].rstrip(".,")) < 1e-4
    x, want = np.load(folder / "x.npy"), np.load(folder / f"{name}.npy")
    with open_engine(folder / "out") as engine:
        scores = engine.manifest.outputs[-1].name
        got = np.concatenate(
            [engine.infer({"x": row[np.newaxis]}).outputs[scores] for row in x[:50]]
        )
    np.testing.assert_allclose(got.reshape(want[:50].shape), want[:50], rtol=1e-3, atol=1e-4)


def test_a_column_of_groups_is_no_input_of_an_estimator(environment, folder):
    flags = ("--labels", "state", "--group", "state")
    done = pack(environment, folder, "forest.joblib", *flags)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "flags"), [("coarse", ("--rtol", "0", "--atol", "0.1")), ("scaled", ())]
)
def test_a_model_that_answers_otherwise_as_onnx_is_refused(environment, folder, name, flags):
    done = pack(environment, folder, f"{name}.joblib", "--drop", "state", *flags)
    assert done.returncode == 1
    assert "answers otherwise than the original" in done.stderr
    assert "train on float32 (a tree needs no scaler before it), or allow more" in done.stderr


class Intruder:
    """A pickle that leaves a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_what_a_pickle_does_when_it_is_opened_reaches_nothing(environment, folder):
    (folder / "intruder.pkl").write_bytes(pickle.dumps(Intruder(str(folder / "touched"))))
    done = pack(environment, folder, "intruder.pkl", "--drop", "state")
    assert done.returncode == 2
    assert "it can't be converted to ONNX" in done.stderr
    assert not (folder / "touched").exists()
    joblib.load(folder / "intruder.pkl")  # Where nothing confines it, it does.
    assert (folder / "touched").exists()
