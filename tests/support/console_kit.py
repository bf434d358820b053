"""A hub whose console a test looks at: signed in, and filled with what pages show."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import msgspec
from sqlalchemy import event

from muster_hub.access.governance import make_token
from muster_hub.storage import models
from muster_hub.storage.store import Store
from support.hub_kit import Kit

MANIFESTS = {"1": "a1" * 32, "2": "b2" * 32}
HTML = {"Accept": "text/html"}


def browser(kit: Kit) -> httpx.Client:
    """A client that behaves as a browser does on this hub's own pages."""
    base = str(kit.http.base_url).rstrip("/")
    return httpx.Client(base_url=base, timeout=60, headers=HTML | {"Origin": base})


def signed_in(kit: Kit, role: str = "admin", name: str = "ada", **scope: object) -> httpx.Client:
    """The same, signed in as somebody of this role."""
    client = browser(kit)
    answer = client.post("/sign-in", data={"token": token(kit, role, name, **scope)})
    assert answer.status_code == 303, answer.text
    return client


def token(kit: Kit, role: str = "admin", name: str = "ada", **scope: object) -> str:
    with kit.hub.store.write() as session:
        return make_token(session, name, role, kit.clock(), **scope)


def report(version: str, *, now: float, **update: object) -> dict:
    """What a device says that runs a version of the model ``digits``."""
    running = {"model": "digits", "version": version, "manifest": MANIFESTS[version],
               "runtime": "onnx", "since": ["Ym9vdA==", 1.0, now, "synchronised"]}  # fmt: skip
    return {
        "generation": 1,
        "facts": {"agent_version": "1", "machine": "aarch64", "memory_bytes": 4 << 30},
        "slots": {
            "vision": {"health": "ok", "running": running, "update": {"state": "idle"} | update}
        },
    }


def goal(version: str) -> bytes:
    champion = {"model": "digits", "version": version, "manifest": MANIFESTS[version]}
    return msgspec.json.encode({"slots": {"vision": {"champion": champion}}})


def add_devices(
    kit: Kit, names: list[str], *, running: str = "1", wanted: str = "1", **fields: object
) -> None:
    """Devices that run one version of ``digits`` and should run another."""
    now = kit.clock()
    settled = {
        "created": now - 86_400, "online": True, "last_seen": now, "reported": now,
        "report": report(running, now=now), "certificate_expires": now + 30 * 86_400,
    } | fields  # fmt: skip
    with kit.hub.store.write() as session:
        for number, name in enumerate(names):
            labels = {"site": ("berlin", "oslo")[number % 2], "line": str(number % 3)}
            session.add(models.Device(id=name, **({"labels": labels} | settled)))
        session.flush()
        for name in names:
            session.add(
                models.DirectiveRow(
                    device=name, epoch=1, generation=1, content_sha256="", payload=goal(wanted),
                    envelope=b"{}", issued=now, expires=now + 86_400,
                )
            )  # fmt: skip


@dataclass
class Statements:
    """SQL sent while it was watched."""

    texts: list[str] = field(default_factory=list)


@contextmanager
def counted(store: Store) -> Iterator[Statements]:
    """Count the statements sent to a database, those of other threads included."""
    seen = Statements()

    def keep(_connection: object, _cursor: object, text: str, *_rest: object) -> None:
        seen.texts.append(text)

    event.listen(store.engine, "before_cursor_execute", keep)
    try:
        yield seen
    finally:
        event.remove(store.engine, "before_cursor_execute", keep)
