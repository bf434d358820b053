"""The paths a worker answers: Open Inference Protocol V2, the repository index, and labels."""

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from muster_agent.runtimes import RUNTIMES
from muster_agent.runtimes.base import Array
from muster_agent.worker import classification, oip
from muster_agent.worker.engine import Engine, NoAnswer
from muster_agent.worker.http1 import Request, Response
from muster_agent.worker.oip_values import OipError
from muster_agent.worker.rows import Quality
from muster_agent.worker.tensors import InvalidInput
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.tensors import FLOATS

HEADER_LENGTH = "inference-header-content-length"
LABELS_MAX = 1000
_DISTRIBUTION = "muster-edge"


def _agent_version() -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


_AGENT = _agent_version()
"""Read with the import: a worker that serves opens no files."""
_MODEL_PATH = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>ready|infer|labels))?"
)
_QUALITY = {
    Quality.GOOD: {"quality": "good"},
    Quality.CONSTANT: {"quality": "constant"},
    Quality.LAST_GOOD: {"quality": "last_good"},
    Quality.NO_DECISION: {"quality": "no_decision"},
}


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    label: str | int | float


class _Labels(msgspec.Struct, forbid_unknown_fields=True):
    labels: Annotated[list[_Label], msgspec.Meta(max_length=LABELS_MAX)]


class _Index(msgspec.Struct):
    ready: bool = False


class InferenceApi:
    """Answers requests with one engine. Every failure is JSON ``{"error": …}``."""

    def __init__(self, engine: Engine, runtime: str | None) -> None:
        self._engine = engine
        self._model = engine.manifest.model
        self._version = engine.manifest.version
        self._platform = "none" if runtime is None else RUNTIMES.find(runtime).platform
        self._outputs = {tensor.name: tensor for tensor in engine.manifest.outputs}
        self._infer_path = f"/v2/models/{self._model}/infer"
        # Of all others the arrays show it, and looking it up would cost each answer.
        self._datatypes = {
            tensor.name: tensor.datatype
            for tensor in engine.manifest.outputs
            if tensor.datatype == "BF16"
        }
        self._takes_floats = all(tensor.datatype in FLOATS for tensor in engine.manifest.inputs)
        self._metadata = msgspec.json.encode(self._describe())
        self._fixed = {
            "/v2": self._server,
            "/v2/health/live": lambda: _ok({"live": True}),
            "/v2/health/ready": self._ready,
        }

    def __call__(self, request: Request) -> Response:
        if request.path == self._infer_path and request.method == "POST":
            return self._infer(request)
        path = request.path.rstrip("/")
        if path in self._fixed:
            return self._fixed[path]() if request.method in {"GET", "HEAD"} else _method("GET")
        if path == "/v2/repository/index":
            return self._index(request) if request.method == "POST" else _method("POST")
        match = _MODEL_PATH.fullmatch(path)
        fault = f"nothing is served at {request.path}"
        if match is not None and match["model"] != self._model:
            fault = f"model {match['model']!r} is not served here; {self._model!r} is"
        elif match is not None and match["version"] not in {None, self._version}:
            fault = f"version {match['version']!r} is not served here; {self._version!r} is"
        elif match is not None:
            return self._model_call(request, match["verb"])
        return _error(404, fault)

    def _model_call(self, request: Request, verb: str | None) -> Response:
        method = "POST" if verb in {"infer", "labels"} else "GET"
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            return _method(method)
        if verb == "infer":
            return self._infer(request)
        if verb == "labels":
            return self._labels(request)
        if verb == "ready":
            return self._ready()
        return Response(200, self._metadata)

    def _infer(self, request: Request) -> Response:
        try:
            return self._answer(request)
        except MemoryError:
            self._engine.refuse("")
            return _error(
                413,
                f"no memory for so large a request, or its answer, beside the model: the limit is "
                f"{self._engine.memory}; binary data take less",
            )

    def _answer(self, request: Request) -> Response:
        engine = self._engine
        identifier = ""
        try:
            asked = oip.decode_request(
                request.body, _header_length(request), floats=self._takes_floats
            )
            identifier = asked.id
            self._check_wanted(asked)
        except OipError as error:
            engine.refuse(identifier)
            return _error(error.status, str(error))
        try:
            answer = engine.infer(asked.inputs, identifier=identifier)
        except InvalidInput as error:
            return _error(error.status, str(error))
        except NoAnswer as error:
            return _error(503, str(error))
        outputs = answer.outputs
        if asked.outputs is not None:
            outputs = {name: outputs[name] for name in asked.outputs if name in outputs}
        if asked.classifications:
            outputs = self._classified(outputs, asked.classifications)
        body, header = oip.encode_response(
            outputs,
            model=self._model,
            version=self._version,
            identifier=identifier,
            parameters=_QUALITY[answer.quality],
            binary={name for name in outputs if asked.is_binary(name)},
            datatypes=self._datatypes,
        )
        if header is None:
            return Response(200, body)
        named = (("Inference-Header-Content-Length", str(header)),)
        return Response(200, body, named, "application/octet-stream")

    def _check_wanted(self, asked: oip.InferRequest) -> None:
        for name in asked.outputs or ():
            if name not in self._outputs:
                raise OipError(f"the model has no output {name!r}")
        for name, count in asked.classifications.items():
            classification.check(self._outputs[name], count)

    def _classified(
        self, outputs: Mapping[str, Array], wanted: Mapping[str, int]
    ) -> dict[str, Array]:
        classifier = self._engine.manifest.classifier
        made = {}
        for name, array in outputs.items():
            classes = classifier.classes if classifier and classifier.output == name else ()
            count = wanted.get(name)
            made[name] = (
                array
                if count is None
                else classification.best(array, count, self._outputs[name], classes)
            )
        return made

    def _labels(self, request: Request) -> Response:
        try:
            given = msgspec.json.decode(request.body, type=_Labels).labels
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _error(400, f"not labels: {error}")
        accepted = 0
        try:
            for entry in given:
                self._engine.label(entry.id, str(entry.label))
                accepted += 1
        except ProtocolError as error:
            return _error(400, f"{error}; {accepted} labels before it were accepted")
        return _ok({"accepted": accepted})

    def _server(self) -> Response:
        extensions = [
            "binary_tensor_data", "classification", "model_repository(index)", "muster_labels",
        ]  # fmt: skip
        return _ok({"name": "muster", "version": _AGENT, "extensions": extensions})

    def _ready(self) -> Response:
        ready = self._engine.model is not None
        state = {"name": self._model, "version": self._version, "ready": ready}
        return Response(200 if ready else 503, msgspec.json.encode(state))

    def _index(self, request: Request) -> Response:
        try:
            only_ready = bool(request.body) and msgspec.json.decode(request.body, type=_Index).ready
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _error(400, f"not an index request: {error}")
        ready = self._engine.model is not None
        entry = {
            "name": self._model,
            "version": self._version,
            "state": "READY" if ready else "UNAVAILABLE",
            "reason": "" if ready else "no model could be loaded; the fallback answers",
        }
        return _ok([entry] if ready or not only_ready else [])

    def _describe(self) -> dict[str, Any]:
        manifest = self._engine.manifest
        return {
            "name": self._model,
            "versions": [self._version],
            "platform": self._platform,
            "inputs": manifest.inputs,
            "outputs": manifest.outputs,
        }


def _header_length(request: Request) -> int | None:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 10:
        raise OipError(f"Inference-Header-Content-Length {text!r} is not a length")
    return int(text)


def _ok(value: object) -> Response:
    return Response(200, msgspec.json.encode(value))


def _error(status: int, message: str) -> Response:
    return Response(status, msgspec.json.encode({"error": message}))


def _method(allowed: str) -> Response:
    body = msgspec.json.encode({"error": f"use {allowed} here"})
    return Response(405, body, (("Allow", allowed),))
