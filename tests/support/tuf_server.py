"""A TUF repository over HTTP, and the device's trust client as a command line against it."""

import json
import threading
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tuf.api.metadata import TargetFile

from muster_agent.trust import cli


class TufServer:
    """Serves ``metadata`` under ``/metadata/`` and ``artifacts`` under ``/targets/``.

    ``asked`` lists metadata files in the order asked for, ``fetched`` artifacts; ``broken`` maps a
    file to the status it is answered with.
    """

    def __init__(self, metadata: Mapping[str, bytes]) -> None:
        self.metadata = metadata
        self.artifacts: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fetched: list[str] = []
        self.broken: dict[str, int] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, data = outer.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Nothing: tests read ``asked``."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=lambda: self._server.serve_forever(poll_interval=0.02), daemon=True
        )

    def offer(self, target: TargetFile, data: bytes) -> None:
        """Lay an artifact under the name of its hash."""
        folder, slash, name = target.path.rpartition("/")
        self.artifacts[f"{folder}{slash}{target.hashes['sha256']}.{name}"] = data

    def answer(self, path: str) -> tuple[int, bytes]:
        _, kind, name = path.split("/", 2)
        served = self.metadata if kind == "metadata" else self.artifacts
        name = name if kind == "metadata" else urllib.parse.unquote(name)
        (self.asked if kind == "metadata" else self.fetched).append(name)
        if name in self.broken:
            return self.broken[name], b""
        data = served.get(name)
        return (404, b"") if data is None else (200, data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


class TufClient:
    """``python -m muster_agent.trust.cli`` in this process."""

    def __init__(self, directory: Path, server: TufServer) -> None:
        self.metadata = directory / "metadata"
        self.targets = directory / "targets"
        self._root = directory / "trusted_root.json"
        self._server = server

    def init(self, root: bytes) -> int:
        self._root.write_bytes(root)
        return self._run("init", str(self._root))

    def refresh(self) -> int:
        self._server.asked.clear()
        return self._run("--metadata-url", f"{self._server.url}/metadata", "refresh")

    def download(self, name: str) -> int:
        self._server.asked.clear()
        return self._run(
            "--metadata-url", f"{self._server.url}/metadata/",
            "--target-name", name,
            "--target-base-url", f"{self._server.url}/targets",
            "--target-dir", str(self.targets),
            "download",
        )  # fmt: skip

    def version(self, role: str) -> int | None:
        """The version shown as trusted; None when the role is not."""
        path = self.metadata / f"{urllib.parse.quote(role, '')}.json"
        return int(json.loads(path.read_bytes())["signed"]["version"]) if path.exists() else None

    def versions(self) -> tuple[int | None, ...]:
        """Of root, timestamp, snapshot, targets."""
        return tuple(map(self.version, ("root", "timestamp", "snapshot", "targets")))

    def downloaded(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.targets.glob("*"))]

    def _run(self, *arguments: str) -> int:
        return cli.main(["--metadata-dir", str(self.metadata), *arguments])
