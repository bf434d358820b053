"""Turns a pickled estimator into ONNX, in a process that ``muster_agent.isolation.run`` has closed.

A pickle runs whatever its maker put into it, so nothing here is to be trusted afterwards but the
answer's form: a model that is checked like any other, and numbers for people.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_client.packing.running import line

OPSETS = {"": 17, "ai.onnx.ml": 3}
"""That every ONNX Runtime which a device may use loads."""
MATRIX = "x"
"""The input of an estimator that takes all columns as one array."""
_NEEDED = ("joblib", "sklearn", "skl2onnx", "onnxruntime")
_BOOSTED = ("lightgbm", "xgboost")
_LIBRARIES: dict[str, Any] = {}


class Conversion(msgspec.Struct, frozen=True):
    """What to convert, and what to compare it on."""

    estimator: str
    rows: str
    """An ``.npz``: ``names``, and the columns in that order."""
    rtol: float
    atol: float
    model: int
    """The descriptor to write the ONNX model to."""
    answer: int
    """The descriptor to write the answer to."""


class Converted(msgspec.Struct, frozen=True, kw_only=True, tag="converted"):
    """What became of it."""

    kind: str
    """The estimator's class."""
    made_with: str
    columns: tuple[str, ...]
    """That it takes, in its order."""
    by_column: bool
    """Each column is an input of its own; otherwise all are one."""
    rows: int
    worst: float
    """The largest difference of a number from the original's."""
    beyond: int
    """Rows with a number beyond the tolerances."""
    other_classes: int | None
    """Rows with another class; None where there are none."""


class NotConverted(msgspec.Struct, frozen=True, tag="not converted"):
    """Why not."""

    error: str
    lacking: str = ""
    """A module that isn't installed."""


Answer = Converted | NotConverted


def prepare(arguments: Sequence[str]) -> None:
    """Import all there is to unpickle and convert with."""
    task = msgspec.json.decode(arguments[0], type=Conversion)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports to its maker
    for name in _NEEDED:
        try:
            _LIBRARIES[name] = importlib.import_module(name)
        except ModuleNotFoundError as error:
            _say(task, NotConverted(line(error), error.name or name))
            raise SystemExit(0) from None
    for name in (*_BOOSTED, "onnxmltools", "pandas"):
        with suppress(ImportError):
            _LIBRARIES[name] = importlib.import_module(name)
    _register()


def work(arguments: Sequence[str]) -> None:
    """Convert, compare and answer."""
    task = msgspec.json.decode(arguments[0], type=Conversion)
    try:
        found: Answer = _convert(task)
    except ModuleNotFoundError as error:
        found = NotConverted(line(error), error.name or "")
    except Exception as error:
        found = NotConverted(f"{type(error).__name__}: {line(error)}")
    _say(task, found)


def _say(task: Conversion, found: Answer) -> None:
    with os.fdopen(task.answer, "wb") as file:
        file.write(msgspec.json.encode(found))


def _register() -> None:
    """Teach skl2onnx the estimators of other libraries, so that pipelines may hold them."""
    if "onnxmltools" not in _LIBRARIES:
        return
    register = _LIBRARIES["skl2onnx"].update_registered_converter
    shapes = importlib.import_module("skl2onnx.common.shape_calculator")
    kinds = {
        "Classifier": (
            shapes.calculate_linear_classifier_output_shapes,
            {"nocl": [True, False], "zipmap": [True, False, "columns"]},
        ),
        "Regressor": (shapes.calculate_linear_regressor_output_shapes, {}),
    }
    for library, prefix, place in (
        ("lightgbm", "LGBM", "lightgbm.operator_converters.LightGbm"),
        ("xgboost", "XGB", "xgboost.operator_converters.XGBoost"),
    ):
        if library not in _LIBRARIES:
            continue
        converters = importlib.import_module(f"onnxmltools.convert.{place}")
        convert = getattr(converters, f"convert_{library}")
        for kind, (shape, options) in kinds.items():
            estimator = getattr(_LIBRARIES[library], f"{prefix}{kind}")
            register(estimator, f"{library}{prefix}{kind}", shape, convert, options=options)


def _convert(task: Conversion) -> Answer:
    estimator = _LIBRARIES["joblib"].load(task.estimator)
    if not callable(getattr(estimator, "predict", None)):
        return NotConverted(f"it holds a {type(estimator).__name__}, which has no predict")
    with np.load(task.rows, allow_pickle=True) as archive:  # written by the parent
        names = [str(name) for name in archive["names"]]
        table = {name: archive[f"column{place}"] for place, name in enumerate(names)}
    columns = _columns(estimator, names)
    missing = [name for name in columns if name not in table]
    if missing:
        return NotConverted(f"it takes a column {missing[0]!r}, which the data don't have")
    taken = {name: table[name] for name in columns}
    by_column = _picks_columns(estimator) or any(c.dtype.kind == "O" for c in taken.values())
    model = _onnx(estimator, taken, by_column=by_column)
    worst, beyond, other = _compared(
        _originals(estimator, taken), _answers(model, taken, by_column=by_column), task
    )
    with os.fdopen(task.model, "wb") as file:
        file.write(model)
    library = type(estimator).__module__.partition(".")[0]
    version = getattr(_LIBRARIES.get(library), "__version__", "")
    return Converted(
        kind=type(estimator).__name__,
        made_with=f"{library} {version}".strip(),
        columns=tuple(columns),
        by_column=by_column,
        rows=len(next(iter(taken.values()))),
        worst=worst,
        beyond=beyond,
        other_classes=other,
    )


def _columns(estimator: Any, names: list[str]) -> list[str]:
    known = getattr(estimator, "feature_names_in_", None)
    if known is None:
        known = getattr(estimator, "feature_name_", None)  # LightGBM's
        if known is None or not {*known} <= {*names}:
            known = names
    return [str(name) for name in known]


def _picks_columns(estimator: Any) -> bool:
    """Whether a part of it picks columns of a data frame by their names."""
    parts = [step for _, step in getattr(estimator, "steps", [])]
    if type(estimator).__name__ == "ColumnTransformer":
        return any(isinstance(c, str | list) for _, _, c in estimator.transformers)
    return any(_picks_columns(part) for part in parts)


def _onnx(estimator: Any, taken: dict[str, NDArray[Any]], *, by_column: bool) -> bytes:
    library = _LIBRARIES["skl2onnx"]
    kinds = importlib.import_module("skl2onnx.common.data_types")
    if by_column:
        types = [
            (
                name,
                (kinds.StringTensorType if c.dtype.kind == "O" else kinds.FloatTensorType)(
                    [None, 1]
                ),
            )
            for name, c in taken.items()
        ]
    else:
        types = [(MATRIX, kinds.FloatTensorType([None, len(taken)]))]
    scaler = importlib.import_module("sklearn.preprocessing").StandardScaler
    # Scaled in float32, a number may fall on the other side of a tree's threshold.
    options: dict[Any, dict[str, Any]] = {scaler: {"div": "div_cast"}}
    if hasattr(estimator, "predict_proba"):
        options[id(estimator)] = {"zipmap": False}
    made = library.convert_sklearn(
        estimator,
        initial_types=types,
        target_opset=OPSETS,
        options=options,
    )
    return bytes(made.SerializeToString())


def _originals(estimator: Any, taken: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What the original says, of numbers as a device has them."""
    columns = {
        name: c if c.dtype.kind == "O" else c.astype(np.float32).astype(np.float64)
        for name, c in taken.items()
    }
    frame: Any
    if "pandas" in _LIBRARIES:
        frame = _LIBRARIES["pandas"].DataFrame(columns)
        if not hasattr(estimator, "feature_names_in_"):
            frame = frame.to_numpy()
    else:
        frame = np.column_stack([*columns.values()])
    asked: list[Callable[[Any], Any]] = [estimator.predict]
    if hasattr(estimator, "predict_proba"):
        asked.append(estimator.predict_proba)
    return [np.asarray(ask(frame)) for ask in asked]


def _answers(
    model: bytes, taken: dict[str, NDArray[Any]], *, by_column: bool
) -> list[NDArray[Any]]:
    runtime = _LIBRARIES["onnxruntime"]
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    columns = {
        name: (c if c.dtype.kind == "O" else c.astype(np.float32))[:, np.newaxis]
        for name, c in taken.items()
    }
    given = columns if by_column else {MATRIX: np.hstack([*columns.values()])}
    return [np.asarray(answer) for answer in session.run(None, given)]


def _compared(
    wanted: list[NDArray[Any]], got: list[NDArray[Any]], task: Conversion
) -> tuple[float, int, int | None]:
    """(Largest difference, rows beyond the tolerances, rows with another class)."""
    want, have = wanted[-1].astype(np.float64), got[len(wanted) - 1].astype(np.float64)
    have = have.reshape(want.shape)
    apart = np.abs(have - want).reshape(len(want), -1)
    allowed = task.atol + task.rtol * np.abs(want).reshape(len(want), -1)
    beyond = int((~(apart <= allowed)).any(axis=1).sum())
    other = None
    if len(wanted) > 1:
        other = int((wanted[0].astype(str) != got[0].reshape(-1).astype(str)).sum())
    return float(apart.max(initial=0.0)), beyond, other
