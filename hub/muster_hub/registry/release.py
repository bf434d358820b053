"""From an upload to a release: keep → check → sign → published. No step can be left out.

A version that fails its check is ``rejected`` with the reason and is never offered for signing.
"""

import logging
import queue
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from sqlmodel import Session, col, select

from muster_hub.access import people
from muster_hub.audit import log
from muster_hub.errors import Conflict, HubError, Invalid, NoSpace, NotFound
from muster_hub.heartbeats import Heartbeats
from muster_hub.registry import bundle, policy
from muster_hub.registry.check import Checker, CheckResult
from muster_hub.registry.gates import registry as gates
from muster_hub.registry.gates.base import GateVerdict
from muster_hub.signing import model_signature
from muster_hub.signing.catalogue import Catalogue
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.disk import Room
from muster_hub.storage.models import Assignment, Model, Rollout, Version
from muster_hub.storage.store import Store
from muster_protocol.wire import agent_release, limits, manifest
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError, ProtocolError
from muster_protocol.wire.listing import cut_file
from muster_protocol.wire.manifest import Manifest

WAITING_MAX = 100
IDLE_SECONDS = 30.0
PART = "release-check"
SILENT_SECONDS = 3 * 3600.0
"""A check may take an hour by its own bound, with one more for signing on a slow token."""
"""Versions waiting for their check; more pushes are refused until some are done."""

_log = logging.getLogger(__name__)


class Releases:
    """The registry's workings. ``released`` is called after anything new was signed."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        catalogue: Catalogue,
        checker: Checker,
        *,
        clock: Callable[[], float],
        released: Callable[[], None] = lambda: None,
        two_people: bool = False,
        model_keys: tuple[ec.EllipticCurvePublicKey, ...] = (),
        room: Callable[[], Room] | None = None,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        """With ``model_keys`` a version passes only with a ``model.sig`` by one of them."""
        self._store = store
        self._blobs = blobs
        self._catalogue = catalogue
        self._checker = checker
        self._clock = clock
        self._released = released
        self._two_people = two_people
        self._model_keys = model_keys
        self._queue: queue.Queue[tuple[str, str] | None] = queue.Queue(WAITING_MAX)
        self._room = room
        self._part = (heartbeats or Heartbeats()).part(PART, SILENT_SECONDS)
        work = self._part.watching(self._work)
        self._thread = threading.Thread(target=work, name=PART, daemon=True)

    # In the background

    def start(self) -> None:
        """Check and sign in a thread, beginning with what a stopped hub left unfinished."""
        self._thread.start()
        with self._store.read() as session:
            unfinished = session.exec(
                select(Version.model, Version.version)
                .where(col(Version.status).in_(("uploaded", "checking", "checked")))
                .order_by(col(Version.created))
                .limit(WAITING_MAX)
            ).all()
        for model, version in unfinished:
            self.submit(model, version)

    def stop(self) -> None:
        """Finish the check under way, leave the rest for the next start."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
            self._queue.task_done()
        self._queue.put(None)
        self._thread.join()

    def finish(self) -> None:
        """Wait until nothing is left to check."""
        self._queue.join()

    def submit(self, model: str, version: str) -> None:
        """Have a version checked and signed soon; raises Conflict when too many wait."""
        try:
            self._queue.put_nowait((model, version))
        except queue.Full:
            raise Conflict(
                f"{WAITING_MAX} versions wait for their check: try again in a while"
            ) from None

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._part.alive()
                continue
            if job is None:
                return
            try:
                self.advance(*job)
            except Exception as error:
                _log.exception("the release of %s %s failed", *job)
                self._part.retrying(error)
            else:
                self._part.beat()
            finally:
                self._queue.task_done()

    # Steps

    def push(
        self, manifest_bytes: bytes, files: Mapping[str, BinaryIO], actor: str, *, model: str
    ) -> Version:
        """Keep an upload. The same content again is the same version; other content is refused,
        except in place of a rejected one. Raises Invalid, Conflict, ProtocolError."""
        parsed = manifest.decode(manifest_bytes)
        if parsed.model == agent_release.NAME:
            raise Invalid(f"{parsed.model} is the agent itself: choose another name for a model")
        if parsed.model != model:
            raise Invalid(f"the manifest is of the model {parsed.model!r}, not {model!r}")
        if parsed.format > 1 and manifest.encode(parsed) != manifest_bytes:
            raise Invalid("the manifest is not canonical: write it with muster_protocol's encoder")
        self._check_room(sum(file.size_bytes for file in parsed.files))
        self._keep(parsed, files)
        self._blobs.put(manifest_bytes)
        with self._store.write() as session:
            row = _enter(session, parsed, manifest_bytes, actor, self._clock())
            if row.status == "uploaded":
                log.append(
                    session,
                    actor=actor,
                    action="version.push",
                    subject=f"{row.model}/{row.version}",
                    now=self._clock(),
                    manifest=row.manifest_sha256,
                )
        return row

    def _check_room(self, size_bytes: int) -> None:
        if self._room is not None and (room := self._room()).refuses(size_bytes):
            raise NoSpace(f"the hub's disk has no room for {size_bytes} bytes: {room}")

    def recheck(self, model: str, version: str, actor: str) -> Version:
        """Have a rejected version checked once more, say after a runtime was installed."""
        with self._store.write() as session:
            row = find(session, model, version)
            if row.status != "rejected":
                raise Conflict(f"{model} {version} is {row.status}, not rejected")
            row.status = "uploaded"
            self._record(session, row, actor, "version.recheck")
        self.submit(model, version)
        return row

    def advance(self, model: str, version: str) -> None:
        """Check a version and, when it passed, sign it or have it wait for signatures."""
        with self._store.write() as session:
            row = find(session, model, version)
            if row.status not in {"uploaded", "checking", "checked"}:
                return
            row.status = "checking"
        result = self._check(row)
        verdicts = self._judge(row, result)
        if result.ok and (refused := gates.refusal(verdicts)):
            result = msgspec.structs.replace(result, ok=False, reason=refused)
        with self._store.write() as session:
            row = find(session, model, version)
            row.check = msgspec.to_builtins(result) | {"gates": msgspec.to_builtins(verdicts)}
            passed = "awaiting_approval" if self._two_people else "checked"
            row.status = passed if result.ok else "rejected"
            self._record(session, row, "hub", f"version.{row.status}", reason=result.reason)
        if row.status == "checked":
            self._sign(row)

    def approve(self, model: str, version: str, actor: str) -> Version:
        """Let a version that passed its check be signed. Raises NotFound, Conflict, and Refused
        for whoever pushed it, their own tokens included."""
        with self._store.write() as session:
            row = find(session, model, version)
            if row.status != "awaiting_approval":
                raise Conflict(f"{model} {version} is {row.status}: it waits for no approval")
            did = f"pushed {model} {version}"
            people.must_be_another(session, row.created_by, actor, did)
            row.status = "checked"
            self._record(session, row, actor, "version.approve")
        self._sign(row)
        with self._store.read() as session:
            return find(session, model, version)

    def retire(
        self, model: str, version: str | None, actor: str, *, dry_run: bool = False
    ) -> dict[str, str]:
        """Take a version, or every one of a model, out; returns what is to be signed, in words.

        Raises NotFound, and Conflict while an assignment or a rollout still asks for it.
        """
        with self._store.read() as session:
            if session.get(Model, model) is None or model == agent_release.NAME:
                raise NotFound(f"there is no model {model!r}")
            wanted = select(Version).where(Version.model == model)
            rows = session.exec(
                wanted if version is None else wanted.where(Version.version == version)
            ).all()
            for row in rows:
                _check_unused(session, row)
        plan = self._catalogue.retire(model, version, self._clock(), dry_run=dry_run)
        if not dry_run:
            with self._store.write() as session:
                for row in rows:
                    kept = find(session, row.model, row.version)
                    kept.status = "retired"
                    self._record(session, kept, actor, "version.retire")
            self._released()
        return plan

    def settle(self) -> None:
        """After signatures came in: versions that the catalogue now holds are published."""
        with self._store.write() as session:
            waiting = session.exec(
                select(Version).where(col(Version.status) == "awaiting_signatures")
            ).all()
            for row in waiting:
                if self._catalogue.is_released(row.model, row.version, row.manifest_sha256):
                    row.status = "published"
                    signed_by = self._catalogue.signed_by(row.model)
                    self._record(session, row, "hub", "version.published", signed_by=signed_by)
        self._released()

    def _check(self, row: Version) -> CheckResult:
        with tempfile.TemporaryDirectory(prefix="muster-check-") as directory:
            try:
                parsed = bundle.unpack(row.manifest, self._blobs.read, Path(directory))
                _check_sizes(parsed)
                bundle.check_usable(parsed, Path(directory))
                _check_signature(parsed, Path(directory), self._model_keys)
                result = self._checker(Path(directory), parsed)
                named = bundle.baseline_format(parsed, Path(directory))
                return msgspec.structs.replace(result, baseline_format=named)
            except (MusterError, OSError) as error:
                return CheckResult(ok=False, reason=str(error))

    def _judge(self, row: Version, result: CheckResult) -> list[GateVerdict]:
        """How the gates of the model's policy judge a version that the check found sound."""
        if not result.ok:
            return []
        with self._store.read() as session:
            rules = policy.gates_of(session, row.model)
            held = policy.champion(session, row.model)
        if not rules:
            return []
        read, trusted = self._blobs.read, bool(self._model_keys)
        champion = None if held is None else policy.shown(held, held.check["builds"], read)
        candidate = policy.shown(row, result.builds, read, trusts_signatures=trusted)
        return gates.judge(rules, candidate, champion)

    def _sign(self, row: Version) -> None:
        try:
            signed = self._catalogue.release(row.model, row.version, row.manifest, self._clock())
        except HubError as error:
            signed, reason = False, str(error)
            status = "rejected"
        else:
            reason, status = "", "published" if signed else "awaiting_signatures"
        with self._store.write() as session:
            row = find(session, row.model, row.version)
            row.status = status
            if reason:
                row.check = row.check | {"ok": False, "reason": reason}
            signed_by = self._catalogue.signed_by(row.model) if signed else {}
            self._record(
                session, row, "hub", f"version.{status}", reason=reason, signed_by=signed_by
            )
        if signed:
            self._released()

    def _keep(self, parsed: Manifest, files: Mapping[str, BinaryIO]) -> None:
        """Cut the files into blobs; raises Invalid when they aren't those of the manifest."""
        listed = {file.path: file for file in parsed.files}
        odd = sorted(listed.keys() ^ files.keys())
        if odd:
            what = "missing from the upload" if odd[0] in listed else "not in the manifest"
            raise Invalid(f"{odd[0]!r} is {what}")
        for name, file in files.items():
            if cut_file(name, file, self._blobs.put) != listed[name]:
                raise Invalid(f"{name!r} is not the file that the manifest describes")

    def _record(
        self, session: Session, row: Version, actor: str, action: str, **detail: Any
    ) -> None:
        log.append(
            session,
            actor=actor,
            action=action,
            subject=f"{row.model}/{row.version}",
            now=self._clock(),
            **{name: value for name, value in detail.items() if value},
        )


def find(session: Session, model: str, version: str) -> Version:
    """The version's row; raises NotFound."""
    row = session.get(Version, (model, version)) if model != agent_release.NAME else None
    if row is None:
        raise NotFound(f"there is no version {version!r} of a model {model!r}")
    return row


def _check_unused(session: Session, row: Version) -> None:
    assignment = session.exec(
        select(Assignment.id).where(
            Assignment.model == row.model, Assignment.version == row.version
        )
    ).first()
    rollout = session.exec(
        select(Rollout.id).where(
            Rollout.model == row.model,
            Rollout.version == row.version,
            col(Rollout.state).in_(("running", "paused")),
        )
    ).first()
    if assignment is not None or rollout is not None:
        what = f"rollout {rollout}" if rollout is not None else f"assignment {assignment}"
        raise Conflict(
            f"{row.model} {row.version} is asked for by {what}: roll out another version first"
        )


def _enter(
    session: Session, parsed: Manifest, manifest_bytes: bytes, actor: str, now: float
) -> Version:
    digest = sha256_hex(manifest_bytes)
    if session.get(Model, parsed.model) is None:
        session.add(Model(name=parsed.model, created=now))
        session.flush()
    row = session.get(Version, (parsed.model, parsed.version))
    if row is not None and row.manifest_sha256 == digest:
        return row
    if row is not None and row.status != "rejected":
        raise Conflict(
            f"{parsed.model} {parsed.version} exists with other content: "
            "a version never changes, choose a new name for this one"
        )
    fresh = Version(
        model=parsed.model,
        version=parsed.version,
        manifest_sha256=digest,
        manifest=manifest_bytes,
        status="uploaded",
        lineage=msgspec.to_builtins(parsed.lineage),
        size_bytes=sum(file.size_bytes for file in parsed.files),
        created=now,
        created_by=actor,
    )
    return session.merge(fresh)


def _check_sizes(parsed: Manifest) -> None:
    """What a device would refuse by size; raises ProtocolError."""
    golden = parsed.file(parsed.golden.file)
    if golden.size_bytes > limits.GOLDEN_BYTES_MAX:
        raise ProtocolError(
            f"{golden.path} is {golden.size_bytes} bytes, the limit for golden vectors is "
            f"{limits.GOLDEN_BYTES_MAX}"
        )


def _check_signature(
    parsed: Manifest, directory: Path, trusted: tuple[ec.EllipticCurvePublicKey, ...]
) -> None:
    """A ``model.sig`` must be of these files, and there must be one when keys are named."""
    path = directory / model_signature.FILE
    if path.exists():
        hashes = {file.path: file.sha256 for file in parsed.files}
        model_signature.check(path.read_bytes(), hashes, trusted)
    elif trusted:
        raise Invalid(
            f"there is no {model_signature.FILE}, which [check] model_public asks for: "
            "sign the bundle with `muster-hub sign-model`"
        )
