"""Asks the probe, and puts a runtime's refusals into words that name the fix."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_client.failures import Lacking, OperatorError, WrongUsage
from muster_client.packing.findings import Answer, Failure, Probed, Request
from muster_client.packing.packed import ModelFile

WALL_SECONDS = 1800.0
MODULES_EXTRA = {"onnxruntime": "pack", "ai_edge_litert": "tflite"}
_FIXES = {
    r"IR version: (?P<got>\d+).*max supported IR version: (?P<most>\d+)": (
        "it has IR version {got}, this ONNX Runtime knows up to {most}: install a newer "
        "onnxruntime, or set model.ir_version = {most} and save it again, if its operators allow"
    ),
    r"[Oo]pset (?P<got>\d+) is under development.*till opset (?P<most>\d+)": (
        "it has opset {got}, this ONNX Runtime knows up to {most}: export it with opset {most}, "
        "or convert it with onnx.version_converter.convert_version(model, {most})"
    ),
    r"(?:No Op registered for|Fatal error:) (?P<got>[\w.:()]+)": (
        "it uses an operator that ONNX Runtime doesn't have ({got}): export it without custom "
        "operators; devices load no libraries of operators"
    ),
    r"unresolved custom op: (?P<got>\w+)": (
        "it uses the custom operator {got}, which TFLite's interpreter doesn't have: export it "
        "with built-in operators only"
    ),
    "Select TensorFlow op": (
        "it uses TensorFlow operators beside TFLite's own: convert it without SELECT_TF_OPS"
    ),
}
"""What a runtime says, and what helps."""


class Probe:
    """The process in which a model runs; use it as a context manager."""

    def __init__(self, model: ModelFile, file: Path) -> None:
        """``file`` is what is loaded, which may be another than the model's own."""
        self._model = model
        self._stack = ExitStack()
        self._room = Path(self._stack.enter_context(TemporaryDirectory(prefix="muster-probe-")))
        heard, said = os.pipe()
        self._heard = self._stack.enter_context(os.fdopen(heard, "rb", buffering=0))
        self._errors = self._stack.enter_context((self._room / "errors").open("w+b"))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "muster_client.packing.probe"),
                *(model.runtime, str(file), str(said)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=[said],
        )
        os.close(said)

    def describe(self) -> Probed:
        """The tensors of the model. Raises OperatorError when it can't be loaded."""
        return self._asked(Request())

    def run(
        self, inputs: Mapping[str, NDArray[Any]], request: Request
    ) -> tuple[Probed, dict[str, NDArray[Any]]]:
        """Run the model on rows as ``request`` says; what was measured, and the answers.

        Answers have rows first; of an output without a batch, or whose size differs from row to
        row, an object array. Raises OperatorError when the model fails or crashes.
        """
        asked, answered = self._room / "inputs.npz", self._room / "outputs.npz"
        np.savez(asked, **inputs)  # type: ignore[arg-type]  # names of tensors
        found = self._asked(replace(request, inputs=str(asked), outputs=str(answered)))
        return found, _read(answered)

    def _asked(self, request: Request) -> Probed:
        answer = self._room / "answer.json"
        assert self._process.stdin is not None
        limit = threading.Timer(WALL_SECONDS, self._process.kill)
        limit.start()
        try:
            line = msgspec.json.encode(replace(request, answer=str(answer)))
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
            done = self._heard.read(1)
        except BrokenPipeError:
            done = b""
        finally:
            late = not limit.is_alive()
            limit.cancel()
        if not done:
            raise self._ended(late=late)
        found = msgspec.json.decode(answer.read_bytes(), type=Answer).found
        if isinstance(found, Failure):
            raise _refused(self._model, found)
        return found

    def _ended(self, *, late: bool) -> OperatorError:
        if late:
            return OperatorError(
                f"{self._model.path}: it took longer than {WALL_SECONDS:g} s: give fewer rows with "
                "--rows"
            )
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {-code}" if code < 0 else f"code {code}"
        return OperatorError(
            f"{self._model.path}: the runtime crashed with it ({how}): {' '.join(last)[:300]}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._stack.close()


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=True) as archive:  # written by our own probe
        return {name: archive[name] for name in archive.files}


def _refused(model: ModelFile, failure: Failure) -> OperatorError:
    error = failure.error
    if failure.lacking:
        extra = MODULES_EXTRA.get(failure.lacking, model.runtime)
        return Lacking(f"packing {model.path.name}", failure.lacking, extra)
    for pattern, words in _FIXES.items():
        found = re.search(pattern, error)
        if found is not None:
            return WrongUsage(f"{model.path}: {words.format(**found.groupdict())}")
    if model.foreign:
        names = ", ".join(sorted(model.foreign))
        return WrongUsage(
            f"{model.path}: it uses operators of {names}, which ONNX Runtime may not have: export "
            f"it without custom operators ({error})"
        )
    return OperatorError(f"{model.path}: {error}")
