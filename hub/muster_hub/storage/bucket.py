"""Blobs in an S3 bucket: AWS's, or one of the many that speak as it does (MinIO, Ceph, R2).

Objects are ``<prefix>/<sha256>``, so that a content delivery network before the bucket serves
devices as it stands. Region and credentials are found as AWS's own tools find them.
"""

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from muster_hub.errors import ConfigError
from muster_hub.storage.blobs import BlobsAway
from muster_protocol.wire.chunks import sha256_hex

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
ATTEMPTS = 3
"""Of one request, with growing, jittered pauses between them (botocore's ``standard`` mode)."""
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class Bucket:
    """Implements ``blobs.Place``. ``trouble``: why the last request failed; empty: it did not.
    ``held_bytes``: in memory, of what was read lately."""

    def __init__(self, url: str, *, endpoint: str = "", cache_bytes: int = 0) -> None:
        """``url`` is ``s3://bucket/prefix``; an empty ``endpoint`` is AWS. What was read lately
        stays in ``cache_bytes`` of memory. Raises ConfigError.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.hostname:
            raise ConfigError(f"storage.url: {url!r} is no s3://bucket/prefix")
        if importlib.util.find_spec("botocore") is None:
            raise ConfigError(
                "storage.url: buckets need botocore: pip install 'muster-edge[aws]', or the "
                "Debian package muster-hub, which has it"
            )
        self.trouble = ""
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._client = _client(endpoint)
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[str, bytes] = OrderedDict()
        self.held_bytes = 0
        self._lock = threading.Lock()

    def write(self, name: str, data: bytes) -> None:
        """Whole or not at all: an object appears once its last byte has come, with its digest."""
        with self._asking():
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data)

    def read(self, name: str) -> bytes | None:
        """From memory where it was read lately."""
        with self._lock:
            if name in self._cached:
                self._cached.move_to_end(name)
                return self._cached[name]
        with self._asking() as missing:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            data: bytes = answer["Body"].read()
        if missing:
            return None
        self._remember(name, data)
        return data

    def size_bytes(self, name: str) -> int | None:
        """By a HEAD."""
        size = 0
        with self._asking() as missing:
            answer = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
            size = int(answer["ContentLength"])
        return None if missing else size

    def where(self, name: str) -> str:
        """Its URL."""
        return f"s3://{self._bucket}/{self._key(name)}"

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _remember(self, name: str, data: bytes) -> None:
        with self._lock:
            known = (
                name in self._cached or sha256_hex(data) != name
            )  # what is damaged may be mended
            if known or len(data) > self._cache_bytes:
                return
            self._cached[name] = data
            self.held_bytes += len(data)
            while self.held_bytes > self._cache_bytes:
                _, oldest = self._cached.popitem(last=False)
                self.held_bytes -= len(oldest)

    @contextmanager
    def _asking(self) -> Iterator[list[bool]]:
        """Ends the block early, with something in the list, where there is no such object."""
        import botocore.exceptions as known  # noqa: PLC0415 - an extra

        missing: list[bool] = []
        try:
            yield missing
        except known.ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _MISSING:
                raise self._away(error) from None
            missing.append(True)
        except (known.BotoCoreError, OSError) as error:
            raise self._away(error) from None
        self.trouble = ""

    def _away(self, error: Exception) -> BlobsAway:
        self.trouble = f"s3://{self._bucket}: {error}"
        return BlobsAway(f"{self.trouble}. Nothing was changed: try again")


def _client(endpoint: str) -> Any:
    import botocore.exceptions as known  # noqa: PLC0415 - an extra
    import botocore.session  # noqa: PLC0415 - an extra
    from botocore.config import Config  # noqa: PLC0415 - an extra

    config = Config(
        connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        # Few but AWS have a host name for each bucket.
        s3={"addressing_style": "path" if endpoint else "auto"},
    )  # fmt: skip
    try:
        return botocore.session.get_session().create_client(
            "s3", endpoint_url=endpoint or None, config=config
        )
    except (known.BotoCoreError, ValueError) as error:
        raise ConfigError(f"storage.url: {error}") from None
