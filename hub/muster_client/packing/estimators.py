"""Estimators that were pickled (scikit-learn, XGBoost, LightGBM), as ONNX models of their own.

A pickle is a program. It is opened only for somebody who trusts its maker, and even then in a
process that can neither write to the disk, nor reach a network, nor start a program.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_client.failures import Lacking, OperatorError, WrongUsage
from muster_client.packing import source
from muster_client.packing.advice import Notes
from muster_client.packing.converting import MATRIX, Answer, Conversion, Converted, NotConverted
from muster_client.packing.options import Options
from muster_client.training.table import Table
from muster_protocol.wire.manifest import Golden

SUFFIXES = (".joblib", ".pkl", ".pickle")
WALL_SECONDS = 1800.0
COMPARED_ROWS_MAX = 20_000
CANT_CONFINE_EXIT = 3
"""Of the process that confines."""
_CGROUPS = "/sys/fs/cgroup"
"""Where LightGBM looks for how many processors it may use."""
_OF_EXTRA = frozenset({"joblib", "sklearn", "skl2onnx", "onnxmltools", "onnxruntime", "onnx"})


def is_estimator(path: Path) -> bool:
    """Whether a file is a pickle by its name."""
    return path.suffix.lower() in SUFFIXES


def converted(
    path: Path, room: Path, options: Options, data: Any, notes: Notes
) -> tuple[Path, Options]:
    """An ONNX file made of a pickled estimator, and options that say which columns it takes.

    Raises OperatorError: it isn't trusted, can't be converted, or answers otherwise than the
    original did on the data.
    """
    if not options.trust_pickle:
        raise WrongUsage(
            f"{path}: a pickle runs whatever its maker put into it as soon as it is opened. If "
            "you made it, or trust who did, say --trust-pickle: it is then opened in a process "
            "that can't write, reach a network or start a program. Or convert it where it was "
            "trained, with skl2onnx.to_onnx(model, X[:1]), and pack that file"
        )
    columns = _columns(options, data)
    rows, made = room / "rows.npz", room / f"{path.stem}.onnx"
    numbered = {f"column{place}": column for place, column in enumerate(columns.values())}
    np.savez(rows, names=np.array([*columns], object), **numbered)  # type: ignore[arg-type]  # by keywords
    found = _run(path, rows, made, options)
    if isinstance(found, NotConverted):
        raise _refused(path, found)
    _judge(path, found)
    _note(found, notes)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    own = {} if found.by_column else {MATRIX: found.columns}
    return made, msgspec.structs.replace(
        options,
        source=options.source or f"{path.name} (SHA-256 {digest[:16]}…), {found.made_with}",
        columns=options.columns or (own if options.data or isinstance(data, Table) else {}),
    )


def _columns(options: Options, data: Any) -> dict[str, NDArray[Any]]:
    """The data by column, less what is no input."""
    given = source.read_columns(options, data)
    if isinstance(given, Table):
        columns = dict(given.without(*source.apart(options)).columns)
    else:
        beside = {options.labels, options.time} - {""}
        arrays = {name: array for name, array in given.items() if name not in beside}
        whole = next(iter(arrays.values()), np.empty(0))
        if len(arrays) != 1 or whole.ndim != 2:
            raise WrongUsage("an estimator takes a table, or one array of rows and columns")
        columns = {str(place): whole[:, place] for place in range(whole.shape[1])}
    return {
        name: column[-COMPARED_ROWS_MAX:]
        if column.dtype.kind == "O"
        else column[-COMPARED_ROWS_MAX:].astype(np.float64)
        for name, column in columns.items()
    }


def _run(path: Path, rows: Path, made: Path, options: Options) -> Answer:
    """Convert in a closed process. Raises OperatorError when it gives no answer."""
    answer = made.with_suffix(".json")
    usual = Golden("")
    rtol = usual.rtol if options.rtol is None else options.rtol
    atol = usual.atol if options.atol is None else options.atol
    with made.open("wb") as model_file, answer.open("wb") as answer_file:
        ends = model_file.fileno(), answer_file.fileno()
        task = Conversion(str(path.absolute()), str(rows), rtol, atol, *ends)
        command = [
            *(sys.executable, "-P", "-m", "muster_agent.isolation.run"),
            *("--read", str(path.absolute()), "--read", str(rows), "--read", _CGROUPS),
            *("muster_client.packing.converting", msgspec.json.encode(task).decode()),
        ]
        try:
            done = subprocess.run(
                command, pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, cwd="/", env=_environment(), timeout=WALL_SECONDS,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise OperatorError(
                f"{path}: converting it took longer than {WALL_SECONDS:g} s: give fewer rows"
            ) from None
    if done.returncode == CANT_CONFINE_EXIT:
        raise OperatorError(
            f"{path}: this kernel can't confine the process that opens the pickle (it takes Linux "
            "5.13 with Landlock): convert it where it was trained, with skl2onnx.to_onnx"
        )
    try:
        found: Answer = msgspec.json.decode(answer.read_bytes(), type=Answer)
    except msgspec.DecodeError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise OperatorError(
            f"{path}: the process that opened it ended with {done.returncode}: "
            f"{' '.join(last)[:300]}"
        ) from None
    return found


def _environment() -> dict[str, str]:
    """Next to nothing; libraries start no threads, which could not be confined."""
    kept = ("LD_LIBRARY_PATH", "PYTHONPATH")
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {name: os.environ[name] for name in kept if name in os.environ} | alone


def _refused(path: Path, found: NotConverted) -> OperatorError:
    library = found.lacking.partition(".")[0]
    if library in _OF_EXTRA:
        return Lacking(f"converting {path.name}", library, "convert")
    if library:
        return WrongUsage(
            f"{path}: it was made with {library!r}, which is not installed here: install the "
            "version that it was made with"
        )
    return WrongUsage(f"{path}: it can't be converted to ONNX: {found.error}")


def _judge(path: Path, found: Converted) -> None:
    if found.beyond or found.other_classes:
        raise OperatorError(
            f"{path}: as ONNX it answers otherwise than the original in "
            f"{max(found.beyond, found.other_classes or 0)} of {found.rows} rows, by up to "
            f"{found.worst:.3g}, which is beyond the tolerances. Numbers on a device are float32: "
            "train on float32 (a tree needs no scaler before it), or allow more with --rtol and "
            "--atol"
        )


def _note(found: Converted, notes: Notes) -> None:
    classes = "" if found.other_classes is None else ", and no class differs"
    notes.add(
        "converted",
        f"The {found.kind} of {found.made_with} was converted to ONNX. In {found.rows} rows of "
        f"the data its answers differ from the original's by at most {found.worst:.2g}{classes}.",
    )
