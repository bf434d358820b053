"""Stand-ins for servers that models are fetched from: MLflow's REST API, Hugging Face's Hub."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, dict[str, str], bytes]
TOKEN = "a-secret"


def said(body: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


@dataclass
class ModelServer:
    """Answers GET by ``answer``; keeps what was asked for, and can break off in a file's midst."""

    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    break_off_at: int | None = None
    """Of the next file: so many bytes are sent, then the connection ends."""

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        raise NotImplementedError

    @contextmanager
    def served(self) -> Iterator[str]:
        """The server on a free port of this machine; its address."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                split = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(split.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.asked.append((self.path, headers))
                status, more, body = owner.answer(unquote(split.path), query, headers)
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                end, owner.break_off_at = (
                    (owner.break_off_at, None) if len(body) > 64 and "ETag" in more
                    else (None, owner.break_off_at)
                )  # fmt: skip
                self.wfile.write(body[:end])
                self.close_connection = True

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


def ranged(body: bytes, headers: dict[str, str]) -> Answer:
    """A file's content, or the rest of it that is asked for by range."""
    tag = f'"{hashlib.sha256(body).hexdigest()}"'
    if headers.get("range") and headers.get("if-range") == tag:
        start = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
        more = {"ETag": tag, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        return 206, more, body[start:]
    return 200, {"ETag": tag}, body


@dataclass
class Mlflow(ModelServer):
    """A registry of one model with an alias, its run, and the artifacts it serves itself."""

    files: dict[str, bytes] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=lambda: {"champion": "3"})
    artifact_uri: str = "mlflow-artifacts:/1/models/m-7/artifacts"
    status: str = "READY"
    knows_sizes: bool = True
    run: dict[str, Any] = field(default_factory=dict)

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if path.startswith("/api/2.0/mlflow-artifacts/artifacts"):
            return self._artifact(path.removeprefix("/api/2.0/mlflow-artifacts/artifacts"), query)
        match path.removeprefix("/api/2.0/mlflow/"):
            case "registered-models/alias":
                if query["name"] != "Pump 7" or query["alias"] not in self.aliases:
                    words = f"Registered model alias {query['alias']} not found."
                    return said({"error_code": "INVALID_PARAMETER_VALUE", "message": words}, 400)
                return self._version(self.aliases[query["alias"]])
            case "model-versions/get":
                return self._version(query["version"])
            case "model-versions/get-download-uri":
                return said({"artifact_uri": self.artifact_uri})
            case "runs/get" if query["run_id"] == "abc1":
                return said({"run": self.run})
            case _:
                return said({"message": "no such thing"}, 404)

    def _version(self, number: str) -> Answer:
        view = {
            "name": "Pump 7", "version": number, "status": self.status, "run_id": "abc1",
            "source": "models:/m-7", "tags": [{"key": "team", "value": "hydraulics"}],
        }  # fmt: skip
        return said({"model_version": view})

    def _artifact(self, path: str, query: dict[str, str]) -> Answer:
        root = "1/models/m-7/artifacts"
        if not path:
            folder = query["path"].removeprefix(root).strip("/")
            return said({"files": [*self._listed(folder)]})
        name = path.strip("/").removeprefix(f"{root}/")
        if name not in self.files:
            return said({"message": f"no {name}"}, 404)
        return 200, {"ETag": 'W/"x"'}, self.files[name]

    def _listed(self, folder: str) -> Iterator[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        inner = [name.removeprefix(prefix) for name in self.files if name.startswith(prefix)]
        for name in sorted({name.partition("/")[0] for name in inner}):
            size = len(self.files.get(f"{prefix}{name}", b""))
            known = {"file_size": size} if self.knows_sizes else {}
            yield {"path": name, "is_dir": f"{prefix}{name}" not in self.files, **known}


@dataclass
class HuggingFace(ModelServer):
    """One repository at one commit, which the branch main names."""

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = "4" * 40
    card: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """In place of a file's own SHA-256."""
    private: bool = False
    moved_to: str = ""
    """Where files are, as with a store of large files: asking for one is redirected there."""

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if self.private and headers.get("authorization") != f"Bearer {TOKEN}":
            return said({"error": "Access to this repo is restricted"}, 401)
        if path in {f"/api/models/plant/pump/revision/{name}" for name in ("main", self.commit)}:
            siblings = [
                {
                    "rfilename": name, "size": len(data),
                    "lfs": {
                        "size": len(data),
                        "sha256": self.digests.get(name, hashlib.sha256(data).hexdigest()),
                    },
                }
                for name, data in self.files.items()
            ]  # fmt: skip
            return said({"sha": self.commit, "siblings": siblings, "cardData": self.card})
        prefix = f"/plant/pump/resolve/{self.commit}/"
        name = path.removeprefix(prefix)
        if path.startswith(prefix) and name in self.files and self.moved_to:
            return 302, {"Location": f"{self.moved_to}{path}"}, b""
        if path.startswith(prefix) and name in self.files:
            return ranged(self.files[name], headers)
        return said({"error": "Repository not found"}, 404)
