"""The engine: check the inputs, run the model, record what happened.

The worker serves it over a socket; a Python program on the device can hold one itself:

    with startup.open_engine(bundle_directory) as engine:
        answer = engine.infer({"x": np.zeros((1, 64), np.float32)})
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Self, assert_never

from muster_agent.runtimes.base import (
    Array,
    Model,
    ModelError,
    OutOfMemoryError,
    UnfitInputError,
)
from muster_agent.worker.fallback import FallbackContract
from muster_agent.worker.last_input import LastInput, Run
from muster_agent.worker.recorder import Recorder
from muster_agent.worker.ring import Ring, RingLayout
from muster_agent.worker.rows import ErrorKind, Quality
from muster_agent.worker.tensors import InputCheck, InvalidInput, OutputCheck, TooLarge
from muster_protocol.wire import usable
from muster_protocol.wire.manifest import Manifest


class Answer(NamedTuple):
    """Outputs by name, and whether a model or the fallback made them."""

    outputs: dict[str, Array]
    quality: Quality


def _good(outputs: dict[str, Array], *, _quality: Quality = Quality.GOOD) -> Answer:
    return Answer(outputs, _quality)


class NoAnswer(ModelError):
    """The model could not answer and no fallback is agreed."""


class Engine:
    """One model, its recorder and its fallback. Not thread-safe: one thread calls ``infer``."""

    def __init__(
        self,
        manifest: Manifest,
        model: Model | None,
        *,
        manifest_sha256: str = "",
        ring: Ring | None = None,
        fallback: FallbackContract | None = None,
        last_input: LastInput | None = None,
        elements_max: float = float("inf"),
        memory_bytes: int = 0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """``elements_max`` bounds a request's input elements: more would take too long here.
        ``memory_bytes`` is what the model may take, for words about it."""
        layout = ring.layout if ring is not None else RingLayout.of(manifest, manifest_sha256)
        self.manifest = manifest
        self.model = model
        self.fallback = fallback
        self._last_input = last_input
        self._run: Run = _no_model if model is None else model.run
        if last_input is not None:
            self._run = last_input.around(self._run)
        self.recorder = Recorder(ring, layout)
        self._monotonic_ns = monotonic_ns
        self._check = InputCheck(manifest, elements_max)
        self.memory = f"{memory_bytes >> 20} MiB (memory_bytes)" if memory_bytes else "there is"
        self._is_as_declared = OutputCheck(manifest)
        self._remembers = fallback is not None and fallback.remembers

    def infer(self, inputs: Mapping[str, Array], *, identifier: str = "") -> Answer:
        """Answer one request of one or more batch elements, and record a row for each.

        Raises InvalidInput for inputs that don't fit the manifest, NoAnswer when neither the
        model nor a fallback could answer; both are recorded.
        """
        begun = self._monotonic_ns()
        try:
            checked, rows = self._check(inputs)
        except InvalidInput:
            self.refuse(identifier, begun)
            raise
        if self.model is None:
            return self._fall_back(identifier, rows, checked, begun, ErrorKind.NO_MODEL, None)
        try:
            outputs = self._run(checked)
        except UnfitInputError as error:
            self.refuse(identifier, begun)
            raise InvalidInput(str(error)) from None
        except (ModelError, MemoryError) as error:
            if isinstance(error, OutOfMemoryError | MemoryError):
                if rows > 1:
                    self.refuse(identifier, begun)
                    raise TooLarge(
                        f"{rows} batch elements need more memory than {self.memory}: "
                        "send fewer at once"
                    ) from None
                error = OutOfMemoryError(f"the request needs more memory than {self.memory}")
            return self._fall_back(identifier, rows, checked, begun, ErrorKind.RUN_FAILED, error)
        if not self._is_as_declared(outputs, rows):
            return self._fall_back(identifier, rows, checked, begun, ErrorKind.BAD_OUTPUT, None)
        ended = self._monotonic_ns()
        if self._remembers and self.fallback is not None:
            self.fallback.remember(outputs, ended / 1e9)
        self.recorder.answered(identifier, rows, checked, outputs, begun, ended)
        return _good(outputs)

    def refuse(self, identifier: str, begun: int | None = None) -> None:
        """Record a request that could not even be read as inputs."""
        now = self._monotonic_ns()
        self.recorder.refused(identifier, now if begun is None else begun, now)

    def label(self, identifier: str, label: str) -> None:
        """Record the true label of an earlier inference.

        Raises ProtocolError when it is too long, or means nothing to this model.
        """
        usable.check_label(label, self.manifest)
        self.recorder.labelled(identifier, label, monotonic_ns=self._monotonic_ns())

    def _fall_back(
        self,
        identifier: str,
        rows: int,
        inputs: Mapping[str, Array],
        begun: int,
        error: ErrorKind,
        cause: Exception | None,
    ) -> Answer:
        now = self._monotonic_ns()
        quality = Quality.UNANSWERED
        outputs: dict[str, Array] = {}
        if self.fallback is not None:
            quality, outputs = self.fallback.answer(rows, now / 1e9)
        self.recorder.answered(
            identifier,
            rows,
            inputs,
            outputs,
            begun,
            now,
            error=error,
            quality=quality,
        )
        if quality is Quality.UNANSWERED:
            raise NoAnswer(_reason(error, cause))
        return Answer(outputs, quality)

    def close(self) -> None:
        """Let the ring file go."""
        if self.recorder.ring is not None:
            self.recorder.ring.close()
        if self._last_input is not None:
            self._last_input.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _no_model(_inputs: Mapping[str, Array]) -> dict[str, Array]:
    raise NoAnswer("no model is loaded here")


def _reason(error: ErrorKind, cause: Exception | None) -> str:
    match error:
        case ErrorKind.NO_MODEL:
            return "no model is loaded here and the manifest's fallback gives no answer"
        case ErrorKind.BAD_OUTPUT:
            return "the model's output doesn't have the shape its manifest declares"
        case ErrorKind.RUN_FAILED | ErrorKind.INVALID_INPUT | ErrorKind.NONE:
            return str(cause) or "the model failed"
        case _:
            assert_never(error)
