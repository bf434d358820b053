"""Models and their versions as they are shown. Nothing here writes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select as columns_of
from sqlmodel import Session, col

from muster_hub.storage import models

Plain = dict[str, Any]
WAITING_MAX = 64
VERSION_SHOWN = (
    "model", "version", "status", "manifest_sha256", "size_bytes", "created", "created_by",
    "lineage", "check",
)  # fmt: skip


def versions(session: Session, names: Sequence[str]) -> dict[str, list[Plain]]:
    """The versions of each of these models without their manifests, the newest first."""
    row = models.Version
    columns = [col(getattr(row, name)) for name in VERSION_SHOWN]
    found: dict[str, list[Plain]] = {}
    query = columns_of(*columns).where(col(row.model).in_(names)).order_by(col(row.created).desc())
    for item in session.connection().execute(query).mappings():
        version = dict(item)
        kept = version["check"]
        version["check"] = {
            "ok": kept.get("ok"),
            "reason": kept.get("reason", ""),
            "builds": kept.get("builds", []),
            "gates": kept.get("gates", []),
        }
        found.setdefault(version["model"], []).append(version)
    return found


def waiting_manifests(session: Session) -> dict[str, bytes]:
    """The manifests of versions that wait for signatures, the newest, by their SHA-256."""
    row = models.Version
    found = session.connection().execute(
        columns_of(col(row.manifest_sha256), col(row.manifest))
        .where(col(row.status) == "awaiting_signatures")
        .order_by(col(row.created).desc())
        .limit(WAITING_MAX)
    )
    return {row.manifest_sha256: row.manifest for row in found}
