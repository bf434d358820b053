"""A fleet of any size that runs something and wants nothing: its rows are inserted in bulk."""

from typing import Any

from sqlalchemy import insert
from sqlmodel import Session

from muster_hub.storage import models
from muster_hub.storage.tables import target
from muster_protocol.wire.directive import Directive
from support.hub_engine import SLOT, Plant

WINDOWS_OF_EACH = 1


class QuickSigner:
    """Implements SignsDirectives; what it signs no device would take."""

    keyid = "quick"

    def sign(self, wanted: Directive) -> bytes:
        del wanted
        return b'{"signatures":[{"keyid":"quick"}]}'


def name_of(number: int) -> str:
    return f"dev-{number:05}"


def fill(plant: Plant, devices: int, manifest: str) -> None:
    """Devices that run the version, with windows, drift states and sent directives behind them."""
    with plant.store.write() as session:
        now, numbers = plant.now, range(devices)
        _add(session, models.Device, [_device(number, manifest, now) for number in numbers])
        _add(session, models.DriftState, [
            {
                "device": name_of(number), "manifest": manifest, "state": bytes(2_000),
                "updated": now, "rebaselines": 0, "alarming": False,
                "view": {"model": "digits", "version": "1", "drifting": [], "findings": {}},
            }
            for number in numbers
        ])  # fmt: skip
        _add(session, models.SummaryWindow, [
            _window(number, sequence, manifest, now)
            for number in numbers
            for sequence in range(1, WINDOWS_OF_EACH + 1)
        ])  # fmt: skip
        _add(session, models.Stream, [
            {
                "device": name_of(number), "stream": "summary", "epoch": "00" * 12,
                "contiguous": WINDOWS_OF_EACH, "created": now - 1e6, "updated": now,
            }
            for number in numbers
        ])  # fmt: skip
        _add(session, models.OutboxMessage, [
            {
                "topic": f"muster/v1/down/{name_of(number)}/directive", "payload": b"",
                "retain": True, "created": now, "published_at": now,
            }
            for number in numbers
        ])  # fmt: skip


def _add(session: Session, table: type[Any], rows: list[dict[str, Any]]) -> None:
    session.connection().execute(insert(target(table)), rows)


def _device(number: int, manifest: str, now: float) -> dict[str, Any]:
    running = {"model": "digits", "version": "1", "manifest": manifest}
    slot = {"running": running, "update": running | {"state": "committed", "generation": 1}}
    return {
        "id": name_of(number), "labels": {"site": f"s{number % 7}"}, "created": 0.0,
        "approved": True, "revoked": False, "online": True, "online_changed": now - 5_000,
        "last_seen": now - 5.0 - number % 3, "reported": now - 100.0,
        "report": {"epoch": 0, "generation": 0, "slots": {SLOT: slot}},
        "set_aside": 0, "set_aside_fault": "", "retries": {}, "revision": 0,
        "certificate_expires": now + 3e7,
    }  # fmt: skip


def _window(number: int, sequence: int, manifest: str, now: float) -> dict[str, Any]:
    counts = dict.fromkeys(
        (
            "n", "errors", "labels_right", "labels_wrong", "compared", "disagreed",
            "compared_failed", "compared_labelled", "compared_right", "compared_champion_right",
        ),
        0,
    )  # fmt: skip
    return counts | {
        "device": name_of(number), "epoch": "00" * 12, "sequence": sequence, "slot": SLOT,
        "model": "digits", "version": "1", "manifest": manifest,
        "start": now - 300.0 * (WINDOWS_OF_EACH - sequence), "seconds": 300.0, "counts": {},
        "received": now, "payload": bytes(300), "fault": "", "folded": True, "rolled": False,
    }  # fmt: skip
