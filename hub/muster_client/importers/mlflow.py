"""MLflow's registry and runs, by its REST API alone: the mlflow package isn't needed."""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from muster_client.failures import OperatorError, WrongUsage
from muster_client.importers.base import BYTES_MAX, FILES_MAX, Brought, Found, lineage
from muster_client.importers.download import Expected, ServerRefused, Web
from muster_client.importers.mlflow_files import is_plain, read_mlmodel, write_example
from muster_client.packing.model_file import input_names

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
MLMODEL = "MLmodel"
FOLDERS_MAX = 16
LISTED_MAX = 4 * FILES_MAX
_REGISTERED = re.compile(r"(?:models:/)?(?P<name>[^@/:]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")
_RUN = re.compile(r"runs:/(?P<run>[0-9a-zA-Z_-]+)/(?P<path>.+)")
SCHEMES = {
    "s3": "Amazon S3", "gs": "Google Cloud Storage", "wasbs": "Azure", "abfss": "Azure",
    "dbfs": "Databricks", "hdfs": "HDFS", "file": "the server's own disk",
}  # fmt: skip
"""Of stores that MLflow may name and this reads not."""


@dataclass(frozen=True)
class Artifacts:
    """Where a model's files are: an MLflow artifact URI, and what is known of its run."""

    uri: str
    run: dict[str, Any]
    metrics: dict[str, float]


class MlflowImporter:
    """A registered model's version, by alias or number, or a model of a run."""

    form = "models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN/PATH (MLFLOW_TRACKING_URI)"

    def find(self, place: str) -> Found:
        with _Server() as server:
            if run := _RUN.fullmatch(place):
                return _found_in_run(server, run["run"], run["path"])
            if registered := _REGISTERED.fullmatch(place):
                return _found_registered(server, **registered.groupdict())
        raise WrongUsage(f"mlflow:{place}: write mlflow:{self.form}")

    def bring(self, found: Found, room: Path) -> Brought:
        with _Server() as server:
            return server.bring(found, room)


IMPORTER = MlflowImporter()


class _Server(Web):
    """The tracking server that MLflow's own variables name."""

    def __init__(self) -> None:
        url = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not url:
            raise WrongUsage(
                "mlflow: which server? Set MLFLOW_TRACKING_URI, as for MLflow itself "
                "(and MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD)"
            )
        token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
        user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
        super().__init__(
            "MLflow",
            url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
            hint="Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD",
        )

    def get(self, path: str, **parameters: str) -> Any:
        """An answer of the REST API; raises ServerRefused."""
        return self.json(f"{API}/{path}", **parameters)

    def run(self, run_id: str) -> dict[str, Any]:
        """A run; nothing where there is none any more."""
        if not run_id:
            return {}
        try:
            found: dict[str, Any] = self.get("runs/get", run_id=run_id)["run"]
        except ServerRefused:
            return {}
        return found

    def listed(self, root: str) -> dict[str, int | None]:
        """Paths below a folder of the artifact store, with sizes where the store knows them.

        Raises OperatorError.
        """
        found: dict[str, int | None] = {}
        folders = [""]
        for number, folder in enumerate(folders):
            if number >= FOLDERS_MAX:
                raise OperatorError(f"MLflow: {root}: more than {FOLDERS_MAX} folders")
            path = f"{root}/{folder}".strip("/")
            for item in self.json(ARTIFACTS, path=path).get("files", []):
                name = str(item["path"])
                if not is_plain(name) or "/" in name:
                    raise OperatorError(f"MLflow: {path}: lists a file called {name!r}")
                inner = f"{folder}/{name}".strip("/")
                if item.get("is_dir"):
                    folders.append(inner)
                else:
                    size = item.get("file_size")
                    found[inner] = None if size is None else int(size)
                if len(found) + len(folders) > LISTED_MAX:
                    raise OperatorError(f"MLflow: {root}: more than {LISTED_MAX} files")
        return found

    def bring(self, found: Found, room: Path) -> Brought:
        """Fetch the model's files that a bundle needs, and its input example."""
        artifacts: Artifacts = found.detail
        root = _root(artifacts.uri, self)
        listed = self.listed(root)
        if MLMODEL not in listed:
            raise WrongUsage(f"MLflow: {artifacts.uri}: no {MLMODEL} file there: not a model")
        where = f"MLflow: {found.identity}"
        described = read_mlmodel(self.small(f"{ARTIFACTS}/{quote(root)}/{MLMODEL}"), where)
        if described.model not in listed:
            raise OperatorError(f"{where}: {described.model} isn't there: was it all uploaded?")
        folder = described.model.rpartition("/")[0]
        beside = [
            path
            for path in listed
            if path == described.model
            or (path.startswith(described.model) and path.rpartition("/")[0] == folder)
        ]
        if len(beside) > FILES_MAX:
            raise OperatorError(f"{where}: more than {FILES_MAX} files")
        left = BYTES_MAX
        for path in beside:
            expected = Expected(size_bytes=listed[path])
            self.file(f"{ARTIFACTS}/{quote(root)}/{quote(path)}", room / path, expected, left)
            left -= (room / path).stat().st_size
        options: dict[str, Any] = {}
        if described.example in listed:
            example = self.small(f"{ARTIFACTS}/{quote(root)}/{quote(described.example)}")
            options["sample"] = str(write_example(example, room, where))
        model = room / described.model
        names = input_names(model)
        if described.columns and len(names) == 1:
            options["columns"] = {names[0]: list(described.columns)}
        shapes = {n: s for n, s in (described.shapes or {}).items() if n in names}
        fixed = {n: [1, *s[1:]] for n, s in shapes.items() if s[:1] == (-1,) and -1 not in s[1:]}
        if fixed:
            options["shape"] = fixed
        return Brought(model, found.origin, options)


def _found_registered(server: _Server, name: str, alias: str | None, version: str | None) -> Found:
    try:
        if alias is not None:
            answer = server.get("registered-models/alias", name=name, alias=alias)
        else:
            answer = server.get("model-versions/get", name=name, version=str(version))
    except ServerRefused as refusal:
        if refusal.status in {400, 404}:
            wanted = f"alias {alias!r}" if alias is not None else f"version {version}"
            raise WrongUsage(
                f"MLflow at {server.url}: no {wanted} of a model {name!r}: {refusal.says}"
            ) from None
        raise
    view = answer["model_version"]
    number = str(view["version"])
    status = view.get("status", "READY")
    if status != "READY":
        raise OperatorError(f"MLflow: {name} {number} is {status}, not READY: try again later")
    uri = server.get("model-versions/get-download-uri", name=name, version=number)["artifact_uri"]
    run_id = str(view.get("run_id") or "")
    identity = f"models:/{name}/{number}"
    metrics = _metrics_of_model(server, str(view.get("source") or ""))
    run = server.run(run_id)
    tags = {f"model.{key}": value for key, value in _pairs(view.get("tags")).items()}
    source = f"mlflow:{identity} at {_host(server.url)}" + (f", run {run_id}" if run_id else "")
    origin = _lineage(source, run, metrics, tags)
    return Found(identity, name, number, origin, Artifacts(str(uri), run, metrics))


def _found_in_run(server: _Server, run_id: str, path: str) -> Found:
    try:
        run = server.get("runs/get", run_id=run_id)["run"]
    except ServerRefused as refusal:
        if refusal.status in {400, 404}:
            raise WrongUsage(f"MLflow at {server.url}: no run {run_id!r}") from None
        raise
    uri, metrics = f"{run['info']['artifact_uri'].rstrip('/')}/{path}", {}
    for output in (run.get("outputs") or {}).get("model_outputs", []):
        logged = server.get(f"logged-models/{quote(str(output['model_id']))}")["model"]
        if logged["info"].get("name") == path:
            uri, metrics = logged["info"]["artifact_uri"], _metrics(logged.get("data"))
    identity = f"runs:/{run_id}/{path}"
    origin = _lineage(f"mlflow:{identity} at {_host(server.url)}", run, metrics, {})
    name = path.rpartition("/")[2]
    return Found(identity, name, "", origin, Artifacts(uri, run, metrics))


def _metrics_of_model(server: _Server, source: str) -> dict[str, float]:
    """Metrics that MLflow 3 keeps with the model itself."""
    if not source.startswith("models:/m-"):
        return {}
    try:
        model = server.get(f"logged-models/{quote(source.removeprefix('models:/'))}")["model"]
    except ServerRefused:
        return {}
    return _metrics(model.get("data"))


def _lineage(
    source: str, run: dict[str, Any], metrics: dict[str, float], tags: dict[str, str]
) -> Any:
    data, info = run.get("data") or {}, run.get("info") or {}
    own = _pairs(data.get("tags"))
    tags = tags | {key: value for key, value in own.items() if not key.startswith("mlflow.")}
    parameters = _pairs(data.get("params"))
    notes = [
        f"{what}: " + ", ".join(f"{key}={value}" for key, value in sorted(pairs.items()))
        for what, pairs in (("tags", tags), ("parameters", parameters))
        if pairs
    ]
    ended = info.get("end_time") or info.get("start_time")
    return lineage(
        source=source,
        commit=own.get("mlflow.source.git.commit", ""),
        data="; ".join(_datasets(run)),
        trained_at=_time(ended),
        metrics=_metrics(data) | metrics,
        notes="\n".join(notes),
    )


def _datasets(run: dict[str, Any]) -> list[str]:
    """Data sets that the run names, with their digests and what they were used for."""
    found = []
    for each in (run.get("inputs") or {}).get("dataset_inputs", []):
        dataset, tags = each.get("dataset") or {}, _pairs(each.get("tags"))
        context = tags.get("mlflow.data.context", "")
        digest = dataset.get("digest", "")
        found.append(
            f"{dataset.get('name', 'data set')}"
            + (f" (digest {digest})" if digest else "")
            + (f", {context}" if context else "")
        )
    return found


def _metrics(data: Any) -> dict[str, float]:
    return {str(each["key"]): each["value"] for each in (data or {}).get("metrics", [])}


def _pairs(stored: Any) -> dict[str, str]:
    return {str(each["key"]): str(each.get("value", "")) for each in stored or []}


def _time(milliseconds: Any) -> str:
    if not isinstance(milliseconds, int | float | str) or not str(milliseconds).isdecimal():
        return ""
    return datetime.fromtimestamp(int(milliseconds) / 1e3, UTC).isoformat(timespec="seconds")


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _root(uri: str, web: Web) -> str:
    """The path of an artifact URI in the server's own store. Raises WrongUsage for other stores."""
    split = urlsplit(uri)
    if split.scheme == "mlflow-artifacts":
        return split.path.strip("/")
    store = SCHEMES.get(split.scheme, "another store")
    raise WrongUsage(
        f"MLflow at {web.url}: the files are at {split.scheme or 'a path'}:…, which is {store}: "
        "start the server with --artifacts-destination so that it serves them itself, or fetch "
        "them with that store's own tool and import folder:PATH"
    )
