"""Stand-ins for orchestrators that loops start, each as its maker documents its API."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Said = tuple[int, Any]


class Server:
    """Answers JSON by ``answer``."""

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Said:
        raise NotImplementedError

    @contextmanager
    def served(self) -> Iterator[str]:
        """The server on a free port of this machine; its address."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(data) if data else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, said = owner.answer(self.command, self.path, headers, body)
                out = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            do_GET = do_POST = _do  # noqa: N815 the library's names

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@dataclass
class Kubeflow(Server):
    """The runs of Kubeflow Pipelines' API v2beta1: made, listed by a filter, looked at."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    token: str = ""
    """Without it nobody is answered; empty: everybody is."""
    lost: int = 0
    """So many of the next answers to POST are 500, and act all the same."""

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Said:
        split = urlsplit(path)
        root, _, run_id = split.path.partition("/apis/v2beta1/runs")
        if root or self.token not in {"", headers.get("authorization", "")[len("Bearer ") :]}:
            return 401, {"error": "Unauthenticated", "code": 16}
        if method == "POST":
            return self._made(body)
        if run_id:
            same = [run for run in self.runs if f"/{run['run_id']}" == run_id]
            return (200, same[0]) if same else (404, {"error": "ResourceNotFound", "code": 5})
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        return 200, {"runs": self._listed(query), "total_size": len(self.runs)}

    def _made(self, body: Any) -> Said:
        if body["pipeline_version_reference"]["pipeline_id"] != "4c7a":
            return 404, {"error": "pipeline 4c7b not found", "code": 5}
        made = {**body, "run_id": f"run-{len(self.runs)}", "state": "PENDING"}
        self.runs.append({"experiment_id": "default", **made})
        if self.lost:
            self.lost -= 1
            return 500, {"error": "lost", "code": 13}
        return 200, self.runs[-1]

    def _listed(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        (wanted,) = json.loads(query["filter"])["predicates"]
        assert (wanted["operation"], wanted["key"]) == ("EQUALS", "display_name")
        named = [run for run in self.runs if run["display_name"] == wanted["stringValue"]]
        where = query.get("experiment_id")
        found = [run for run in named if where in {None, run["experiment_id"]}]
        return found[: int(query["page_size"])]


@dataclass
class Sagemaker(Server):
    """Executions as AWS documents them, JSON 1.1: a repeat of a token gives the same execution."""

    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By their tokens."""
    refuses: tuple[int, str] | None = None
    """The next request: status and kind of error."""

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Said:
        assert "AWS4-HMAC-SHA256" in headers["authorization"], "each request is signed"
        if self.refuses:
            (status, kind), self.refuses = self.refuses, None
            return status, {"__type": kind, "message": "no"}
        match headers["x-amz-target"]:
            case "SageMaker.StartPipelineExecution":
                return self._started(body)
            case "SageMaker.DescribePipelineExecution":
                arns = {each["PipelineExecutionArn"]: each for each in self.executions.values()}
                return 200, arns[body["PipelineExecutionArn"]]
            case other:
                return 400, {"__type": "UnknownOperationException", "message": other}

    def _started(self, body: Any) -> Said:
        if body["PipelineName"] != "train-pump":
            return 400, {"__type": "ResourceNotFound", "message": "Pipeline doesn't exist"}
        number = f"exec{len(self.executions)}"
        arn = f"arn:aws:sagemaker:eu-west-1:123456789012:pipeline/train-pump/execution/{number}"
        state = {"PipelineExecutionStatus": "Executing", "PipelineExecutionArn": arn}
        made = self.executions.setdefault(body["ClientRequestToken"], {**body, **state})
        return 200, {"PipelineExecutionArn": made["PipelineExecutionArn"]}
