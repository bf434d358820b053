"""A hub for the API's tests: real database, keys, catalogue and HTTP server; no broker."""

import atexit
import functools
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muster_hub.access.governance import make_token
from muster_hub.api.app import server_config
from muster_hub.api.hub import Hub
from muster_hub.api.listening import listen
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.console.site import create_site
from muster_hub.settings.config import BrokerSettings, Http, load

API = "/api/v1"
PATIENT = Http(reads_per_second=1e6, writes_per_second=1e6, strangers_per_second=1e6)
"""A test asks as fast as its machine can; the tests of the hub's pace set one of their own."""


@dataclass
class Clock:
    """Time that only moves when told."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Kit:
    hub: Hub
    clock: Clock
    http: httpx.Client
    server: uvicorn.Server
    thread: threading.Thread
    wakes: list[float] = field(default_factory=list)

    def close(self) -> None:
        self.http.close()
        self.hub.stopping.set()
        self.server.should_exit = True
        self.thread.join()
        self.hub.store.close()

    def as_(self, role: str) -> dict[str, str]:
        """Headers with a new token of this role."""
        with self.hub.store.write() as session:
            token = make_token(session, f"a-{role}", role, self.clock())
        return {"Authorization": f"Bearer {token}"}

    def enrol_token(self, **ask) -> str:
        answer = self.http.post(f"{API}/enroll-tokens", json=ask, headers=self.as_("operator"))
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    def enrol(self, token: str, key=None, name="cam-1", **more):
        body = {"token": token, "csr_pem": csr(key or new_key(), name), **more}
        return self.http.post(f"{API}/enroll", json=body)


@functools.cache
def _example() -> Path:
    """A hub made once for all tests of a process, to be copied."""
    parent = Path(tempfile.mkdtemp(prefix="muster-hub-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    _initialise(parent / "hub")
    return parent / "hub"


def _initialise(directory: Path, **wanted) -> None:
    initialise(directory, NewHub(("hub.test",), Http(), BrokerSettings(), **wanted))


def open_kit(directory: Path, *, settings: dict | None = None, **wanted) -> Kit:
    """Make a hub in ``directory`` and serve its API on a free port, without TLS.

    ``settings`` are sections of its configuration, over what ``init`` writes and ``PATIENT``.
    """
    if wanted:
        _initialise(directory / "hub", **wanted)
    else:
        shutil.copytree(_example(), directory / "hub")
    config = msgspec.structs.replace(
        load(directory / "hub"), **{"http": PATIENT, **(settings or {})}
    )
    clock = Clock()
    hub = Hub.open(config, clock)
    server, thread, url = serve(hub)
    http = httpx.Client(base_url=url, timeout=60, verify=False)
    kit = Kit(hub, clock, http, server, thread)
    hub.on_change(lambda: kit.wakes.append(clock()))
    return kit


def serve(hub: Hub, **options) -> tuple[uvicorn.Server, threading.Thread, str]:
    """The hub's API on a free port, in a thread of its own; its address.

    Without TLS, unless ``options`` of uvicorn's name a certificate.
    """
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(
        server_config(
            create_site(hub), log_level="critical", timeout_graceful_shutdown=2, **options
        )
    )
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    host, port = listener.getsockname()
    return server, thread, f"http://{host}:{port}"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def is_problem(answer, status: int, code: str) -> str:
    """Check a problem document; its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["title"]
    assert body["detail"]
    return body["detail"]
