"""Releases of the agent in the hub's catalogue: verified at the door, kept in chunks, and listed.

A release stands among versions, under a model's name that only it has, so that rollouts,
assignments and directives treat it as they treat a model's. Whoever holds the keys of the role
targets has signed it: nothing is left to check or to sign here.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SecureSystemsError
from sqlalchemy import func
from sqlmodel import Session, col, select
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Root, Targets

from muster_hub.audit import log
from muster_hub.errors import Conflict, Invalid, NoSpace, NotFound
from muster_hub.signing import roles
from muster_hub.signing.catalogue import Catalogue
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.disk import Room
from muster_hub.storage.models import Device, Model, Version
from muster_hub.storage.store import Store
from muster_protocol.wire import agent_release, limits
from muster_protocol.wire.agent_release import NAME, AgentRelease
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.listing import cut_file
from muster_protocol.wire.topics import check_version

FILE = "agent.muster"
Plain = dict[str, Any]


def push(
    store: Store,
    blobs: Blobs,
    catalogue: Catalogue,
    room: Callable[[], Room],
    file: BinaryIO,
    *,
    by: str,
    now: float,
) -> Version:
    """Keep a release's file. The same file again is the same release. Audited.

    Raises Invalid and ProtocolError for what is damaged, altered or not signed by as many keys of
    targets as the root asks for, Conflict for a version that is there with other content, NoSpace.
    """
    start = file.read(len(agent_release.HEAD) + agent_release.LENGTH_BYTES)
    envelope = file.read(agent_release.envelope_length(start))
    release = _verified(_newest_root(catalogue.files_to_publish()), envelope)
    check_version(release.version)
    size_bytes = len(start) + len(envelope) + release.size_bytes
    if (found := room()).refuses(size_bytes):
        raise NoSpace(f"the hub's disk has no room for {size_bytes} bytes: {found}")
    _check_wheels(release, file)
    file.seek(0)
    entry = cut_file(FILE, file, blobs.put)
    listing = agent_release.encode_listing(release.version, entry)
    blobs.put(listing)
    with store.write() as session:
        row = session.get(Version, (NAME, release.version))
        if row is not None and row.manifest_sha256 == sha256_hex(listing):
            return row
        if row is not None:
            raise Conflict(
                f"agent {release.version} is here with other content: a release never changes, "
                "build this one under another version"
            )
        return _enter(session, release, listing, by, now)


def _enter(session: Session, release: AgentRelease, listing: bytes, by: str, now: float) -> Version:
    if session.get(Model, NAME) is None:
        session.add(Model(name=NAME, created=now))
        session.flush()
    row = Version(
        model=NAME,
        version=release.version,
        manifest_sha256=sha256_hex(listing),
        manifest=listing,
        status="published",
        check={"ok": True, "agent": _said(release)},
        size_bytes=agent_release.decode_listing(listing).file.size_bytes,
        created=now,
        created_by=by,
    )
    session.add(row)
    log.append(
        session, actor=by, action="agent.push", subject=release.version, now=now,
        listing=row.manifest_sha256,
    )  # fmt: skip
    session.flush()
    return row


def releases(session: Session) -> list[Plain]:
    """Every release, the newest first, and how many devices say that they run it."""
    rows = session.exec(
        select(Version).where(Version.model == NAME).order_by(col(Version.created).desc())
    ).all()
    running = agents(session)
    return [_shown(row, running) for row in rows]


def release(session: Session, version: str) -> Plain:
    """One release, with its wheels. Raises NotFound."""
    row = session.get(Version, (NAME, version))
    if row is None:
        raise NotFound(f"there is no release {version!r} of the agent")
    return _shown(row, agents(session)) | {"wheels": row.check["agent"]["wheels"]}


def agents(session: Session) -> dict[str, int]:
    """Version of the agent → devices that say that they run it."""
    version = col(Device.report)["facts"]["agent_version"].as_string()
    query = (
        select(version, func.count())
        .where(col(Device.deleted).is_(None), col(Device.revoked).is_(False), version.is_not(None))
        .group_by(version)
    )
    return {str(name): int(count) for name, count in session.exec(query)}


def _shown(row: Version, running: Mapping[str, int]) -> Plain:
    said = row.check["agent"]
    return {
        "version": row.version,
        "size_bytes": row.size_bytes,
        "issued": said["issued"],
        "extras": said["extras"],
        "listing": row.manifest_sha256,
        "created": row.created,
        "created_by": row.created_by,
        "devices": running.get(row.version, 0),
    }


def _said(release: AgentRelease) -> Plain:
    said: Plain = msgspec.to_builtins(release)
    return {name: said[name] for name in ("issued", "extras", "wheels")}


def _newest_root(files: Mapping[str, bytes]) -> Root:
    versions = [int(name.split(".")[0]) for name in files if name.endswith(".root.json")]
    if not versions:
        raise Conflict("the catalogue's first root is not signed yet: nothing can be verified")
    name = f"{max(versions)}.root.json"
    return roles.parse(Root, files[name], name).signed


def _verified(root: Root, data: bytes) -> AgentRelease:
    try:
        envelope = Envelope.from_dict(msgspec.json.decode(data, type=dict))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"the release's envelope can't be read: {error}") from None
    except SecureSystemsError as error:
        raise Invalid(f"the release's envelope can't be read: {error}") from None
    if envelope.payload_type != agent_release.PAYLOAD_TYPE:
        raise Invalid(f"the envelope holds {envelope.payload_type[:80]!r}, no release of the agent")
    try:
        root.verify_delegate(Targets.type, envelope.pae(), envelope.signatures)
    except UnsignedMetadataError as error:
        raise Invalid(
            f"the release is not signed by the catalogue's targets keys ({error}): altered, of "
            "another fleet, or short of a signature (muster-hub agent-release sign)"
        ) from None
    return agent_release.decode(envelope.payload)


def _check_wheels(release: AgentRelease, file: BinaryIO) -> None:
    """Raise Invalid unless the file goes on with the wheels that were signed, and ends there."""
    for wheel in release.wheels:
        hashed, left = hashlib.sha256(), wheel.size_bytes
        while left and (piece := file.read(min(left, limits.MIB))):
            hashed.update(piece)
            left -= len(piece)
        if left:
            raise Invalid(f"{wheel.name}: the file is cut short: copy it anew")
        if hashed.hexdigest() != wheel.sha256:
            raise Invalid(f"{wheel.name} is not what was signed: the copy is damaged or altered")
    if file.read(1):
        raise Invalid("the file goes on behind its last wheel: copy it anew")
