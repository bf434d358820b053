"""A hub's database with a model and devices in it, before anything of it runs."""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509

from muster_hub.identity.pki import Pki
from muster_hub.storage import models
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.store import Store
from muster_protocol.wire import manifest
from wire_samples import MANIFEST

MODEL, VERSION = "digits", "1"


def stock(store: Store, blobs: Blobs, pki: Pki, files: Path, devices: Iterable[str]) -> None:
    """A published version, and devices whose certificates are put into ``files``."""
    files.mkdir()
    (files / "ca.pem").write_bytes(pki.ca_pem)
    data = manifest.encode(msgspec.structs.replace(MANIFEST, model=MODEL, version=VERSION))
    with store.write() as session:
        session.add(models.Model(name=MODEL, created=time.time()))
        session.flush()
        session.add(
            models.Version(
                model=MODEL, version=VERSION, manifest_sha256=blobs.put(data), manifest=data,
                status="published", size_bytes=1, created=time.time(), created_by="test",
            )
        )  # fmt: skip
        for name in devices:
            pair = pki.issue_client(name, time.time())
            (files / f"{name}.pem").write_bytes(pair.certificate_pem)
            (files / f"{name}.key").write_bytes(pair.key_pem)
            session.add(models.Device(id=name, created=time.time()))
            session.flush()
            held = x509.load_pem_x509_certificate(pair.certificate_pem)
            session.add(
                models.Certificate(
                    serial=f"{held.serial_number:x}", device=name, key_fingerprint="",
                    pem=pair.certificate_pem.decode(), issued=time.time(),
                    expires=held.not_valid_after_utc.timestamp(),
                )
            )  # fmt: skip
