"""A stand-in for SageMaker's model registry and the S3 beside it, as AWS documents them."""

import datetime as dt
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:model-package/pumps"
MADE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()


def package(number: int, **fields: Any) -> dict[str, Any]:
    """A version of the group ``pumps``."""
    containers = [{"Image": "i", "ModelDataUrl": f"s3://models/{number}.tar.gz"}]
    usual = {
        "ModelPackageArn": f"{ARN}/{number}", "ModelPackageGroupName": "pumps",
        "ModelPackageVersion": number, "ModelApprovalStatus": "Approved", "CreationTime": MADE,
        "ModelPackageStatus": "Completed", "InferenceSpecification": {"Containers": containers},
    }  # fmt: skip
    return usual | fields


@dataclass
class Registry:
    """One group, oldest version first, and objects by BUCKET/KEY."""

    packages: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    break_off_at: int | None = None
    """Of the next object: so many bytes are sent, then the connection ends."""
    ranges: list[str] = field(default_factory=list)
    """Of objects, as they were asked for."""
    page: int = 1
    """So many versions a page."""

    def listed(self, asked: dict[str, Any]) -> dict[str, Any]:
        """ListModelPackages, the newest first."""
        status = asked.get("ModelApprovalStatus")
        found = [
            each
            for each in reversed(self.packages)
            if asked["ModelPackageGroupName"] == "pumps"
            and status in {None, each["ModelApprovalStatus"]}
        ]
        start = int(asked.get("NextToken", 0))
        more = {"NextToken": str(start + self.page)} if start + self.page < len(found) else {}
        return {"ModelPackageSummaryList": found[start : start + self.page], **more}

    @contextmanager
    def served(self) -> Iterator[str]:
        """Both services on a free port of this machine; its address."""
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self})
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Registry

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert "AWS4-HMAC-SHA256" in self.headers["Authorization"]
        if self.headers["X-Amz-Target"] == "SageMaker.ListModelPackages":
            return self._send(200, json.dumps(self.owner.listed(asked)).encode())
        named = [
            each
            for each in self.owner.packages
            if each["ModelPackageArn"] == asked["ModelPackageName"]
        ]
        return self._send(200, json.dumps(named[0]).encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].strip("/")
        if name not in self.owner.objects:
            return self._send(404, b"")
        data = self.owner.objects[name]
        tag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if not (wanted := self.headers.get("Range")):
            return self._send(200, data, tag)
        if self.headers.get("If-Match") not in {None, tag["ETag"]}:
            return self._send(412, b"")
        self.owner.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        end, self.owner.break_off_at = self.owner.break_off_at, None
        more = tag | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return self._send(206, data[start:], more, end)

    def _send(
        self, status: int, body: bytes, more: dict[str, str] | None = None,
        end: int | None = None,
    ) -> None:  # fmt: skip
        self.send_response(status)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:end])
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
