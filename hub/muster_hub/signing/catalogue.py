"""The catalogue of what may ever run: a TUF repository kept as files.

``timestamp.json`` names one snapshot, and that one the targets and model roles. All but the
timestamp are written once, so what is published follows from the timestamp alone and readers need
no lock. A change to a role whose key is kept elsewhere waits as a draft for its signatures.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer, SSlibKey
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from muster_hub.errors import CatalogueError
from muster_hub.signing import catching_up, ceremonies, roles, withdrawn
from muster_hub.signing.catalogue_files import CatalogueFiles, signing_order
from muster_hub.signing.catching_up import CaughtUp
from muster_hub.signing.ceremonies import Basis, Changes
from muster_hub.signing.keys import ONLINE, KeyGroup, Keyring
from muster_hub.signing.remembered import Remembered
from muster_hub.signing.roles import AnyMetadata, Kind, RoleStanding, Signatures
from muster_protocol.wire import directive, manifest
from muster_protocol.wire.contact import Approved

VERSION_LEAP_MAX = 1_000_000
"""How far ahead a reported version is believed: no device may use up the range of versions."""

FIRST_EPOCH = 1
_NOTHING_WAITS = (
    "nothing that waits for signatures has this content: "
    "fetch the signing request again and sign that"
)
SigningPlan = dict[str, str]
"""What is to be signed, in words, by role."""


class Catalogue:
    """The repository in ``directory``; ``create`` fills an empty one."""

    def __init__(self, directory: Path, keyring: Keyring) -> None:
        self._files = CatalogueFiles(directory)
        self._keyring = keyring
        self._named = Remembered(self._files.stamp, self._read_targets)
        self._director = Remembered(
            lambda: (self._files.stamp(), keyring.stamp()), self._open_director
        )

    def create(self, now: float) -> None:
        """Make the first root and targets; as drafts when their keys are not here."""
        with self._files.writing():
            if self._files.version("root") or self._files.drafts():
                raise CatalogueError(f"{self._files.directory} already holds a catalogue")
            first: dict[str, Root | Targets] = {
                "root": roles.new_root(self._keyring),
                "targets": roles.new_targets(self._keyring, FIRST_EPOCH),
            }
            self._propose(first, now)

    def files_to_publish(self) -> dict[str, bytes]:
        """Every current file by name in publication order: leaves first, the timestamp last."""
        return self._files.in_publication_order()

    @property
    def director_epoch(self) -> int:
        """Devices ignore directives of any other epoch."""
        return self._named()[0]

    @property
    def contact(self) -> Approved | None:
        """Where devices may be sent; None: they stay where they were enrolled."""
        return self._named()[1]

    def _read_targets(self) -> tuple[int, Approved | None]:
        targets = self._files.current("targets", Targets)
        if targets is None:
            return FIRST_EPOCH, None
        return roles.director_epoch(targets.signed), roles.contact(targets.signed)

    def factory_root(self) -> bytes:
        """The first root: what a device must be given from outside the hub's own reply."""
        return self._files.must("1.root.json")

    def is_released(self, model: str, version: str, manifest_sha256: str) -> bool:
        """Whether the published catalogue names exactly this manifest."""
        role = self._files.current(manifest.role_name(model), Targets)
        if role is None:
            return False
        target = role.signed.targets.get(manifest.target_path(model, version))
        return target is not None and target.hashes.get("sha256") == manifest_sha256

    def release(self, model: str, version: str, manifest_bytes: bytes, now: float) -> bool:
        """Enter a version. True when it is signed and published, False when it waits as a draft.

        Raises CatalogueError when the version is there with other content.
        """
        path = manifest.target_path(model, version)
        name = manifest.role_name(model)
        target = TargetFile.from_data(path, manifest_bytes, ["sha256"])
        with self._files.writing():
            targets = self._basis("targets", Targets)
            if targets is None:
                raise CatalogueError("the catalogue is empty: run `muster-hub init` first")
            changes: dict[str, Targets] = {}
            if not roles.delegates(targets, name):
                roles.delegate_model(targets, model, self._keyring.group("release"))
                changes["targets"] = targets
            role = self._basis(name, Targets) or Targets()
            known = role.targets.get(path)
            if known is not None and known.hashes != target.hashes:
                raise CatalogueError(f"{model} {version} is released with other content")
            if known is None:
                role.targets[path] = target
                changes[name] = role
            self._propose(changes, now)
        return self.is_released(model, version, target.hashes["sha256"])

    def retire(
        self, model: str, version: str | None, now: float, *, dry_run: bool = False
    ) -> SigningPlan:
        """Take a version, or all of a model, out: no device installs it from then on."""
        return self._change(lambda basis: ceremonies.retire(basis, model, version), now, dry_run)

    def set_keys(
        self, role: str, keys: KeyGroup, now: float, *, dry_run: bool = False
    ) -> SigningPlan:
        """Give a role other keys; see ``ceremonies.set_keys``. Keys left out are withdrawn as soon
        as everything they signed is signed by the others.
        """
        plan = self._change(lambda basis: ceremonies.set_keys(basis, role, keys), now, dry_run)
        if role in ("root", "targets", "release") and not dry_run:
            self._keyring.put_group(roles.key_role(role), keys)
        return plan

    def rotate_online(
        self,
        role: str,
        now: float,
        *,
        hardware: tuple[str, SSlibKey] | None = None,
        dry_run: bool = False,
    ) -> SigningPlan:
        """Replace the hub's own key of ``snapshot``, ``timestamp`` or ``director``, by a new one
        or by one in ``hardware``, given as its URI and public half.

        The new key signs once the root or targets that name it are signed; the old one is deleted
        then.
        """
        online = next((metadata for metadata in ONLINE if metadata == role), None)
        if online is None:
            raise CatalogueError(f"{role} is not an online role: {', '.join(ONLINE)} are")
        if hardware is not None:
            public = hardware[1] if dry_run else self._keyring.adopt_online(online, *hardware)
        elif dry_run:
            public = self._keyring.group(online).keys[0]
        else:
            public = self._keyring.new_online(online)
        return self.set_keys(online, KeyGroup((public,), 1), now, dry_run=dry_run)

    def new_epoch(self, now: float, *, dry_run: bool = False) -> SigningPlan:
        """Begin a new director epoch, in which generations count from 1."""
        return self._change(ceremonies.next_epoch, now, dry_run)

    def set_contact(
        self, change: Callable[[Approved], Approved], now: float, *, dry_run: bool = False
    ) -> SigningPlan:
        """Change where devices may be sent, from what is drafted or in force."""
        return self._change(lambda basis: ceremonies.set_contact(basis, change), now, dry_run)

    def director(self) -> Signer:
        """The signer of directives: the key that published targets delegate to."""
        return self._director()

    def _open_director(self) -> Signer:
        targets = self._files.current("targets", Targets)
        ids = [] if targets is None else roles.keyids(targets.signed, directive.ROLE)
        found = self._keyring.signers(ids)
        return found[0] if found else self._keyring.online_signer("director")

    def standing(self) -> dict[str, RoleStanding]:
        """Who may sign each published role, and until when what they signed is good."""
        return self._files.standing()

    def expiries(self) -> dict[str, float]:
        """Until when each published role is good, in seconds since 1970."""
        return {role: metadata.expires for role, metadata in self.standing().items()}

    def waiting(self) -> dict[str, list[Signatures]]:
        """Who has signed each waiting role, and who may; a new root waits for two groups."""
        found: dict[str, list[Signatures]] = {}
        for role, data in self._files.drafts().items():
            draft = roles.parse_any(data, f"drafts/{role}.json")
            groups = [
                roles.signatures(delegator, role, draft) for delegator in self._delegators(role)
            ]
            found[role] = [group for group in groups if not group.complete] or groups[-1:]
        return found

    def signed_by(self, model: str) -> dict[str, str]:
        """Keys that signed a model's published versions: what people call each, by its id."""
        names = self._keyring.names()
        return {key: names.get(key, "") for key in self._files.signed_by(manifest.role_name(model))}

    def refresh(self, now: float) -> bool:
        """Sign anew what nears its end and can be signed here; True when anything changed."""
        with self._files.writing():
            snapshot = self._files.current("snapshot", Snapshot)
            timestamp = self._files.current("timestamp", Timestamp)
            if snapshot is None or timestamp is None:
                return False
            due = {
                role: signed
                for role, signed in self._files.leaves().items()
                if roles.lifetime(role).due(signed, now) and self._can_sign(role)
            }
            if due:
                return self._propose(due, now)
            if not self._sealed(snapshot, timestamp):
                self._seal({}, now)
                return True
            withdrawn.forget(self._files, self._keyring)
            if roles.lifetime("snapshot").due(snapshot.signed, now):
                self._seal({}, now)
                return True
            if roles.lifetime("timestamp").due(timestamp.signed, now):
                self._seal_timestamp(snapshot.signed.version, now)
                return True
        return False

    def draft_due(self, now: float) -> list[str]:
        """Draft what nears its end and waits for keys kept elsewhere; the roles drafted anew."""
        with self._files.writing():
            drafted = self._files.drafts()
            leaves: dict[str, Root | Targets] = dict(self._files.leaves())
            root = self._files.current("root", Root)
            if root is not None:
                leaves["root"] = root.signed
            due = {
                role: signed
                for role, signed in leaves.items()
                if role not in drafted and roles.lifetime(role).due(signed, now)
            }
            self._propose(due, now)
        return sorted(due)

    def continue_from(self, reported: Mapping[str, int], now: float) -> bool:
        """Go on from the versions that devices hold, where those are ahead of ours.

        A hub restored from a backup would otherwise publish versions that devices refuse as a
        rollback. ``reported`` maps role names to versions; the caller answers for them.
        """
        with self._files.writing():
            ahead = {
                role: version for role, version in reported.items() if self._behind(role, version)
            }
            if not ahead or not self._files.version("snapshot"):
                return False
            self._files.raise_floors(ahead)
            changes = {
                role: signed for role, signed in self._files.leaves().items() if role in ahead
            }
            if not self._propose(changes, now):
                self._seal({}, now)
        return True

    def ahead(self, reported: Mapping[str, int]) -> dict[str, int]:
        """Of reported versions those that this hub has never given out: role → its own latest."""
        latest = {role: self._files.next_version(role) - 1 for role in reported if role != "root"}
        return {role: own for role, own in latest.items() if 0 < own < reported[role]}

    def catch_up(self, device: str, timestamp: bytes, snapshot: bytes, now: float) -> bool:
        """Go on from the metadata that a device shows, where they are ahead of ours; whether so.

        Raises CatalogueError for what this hub's keys did not sign, and beyond the cap.
        """
        roots = self._files.roots()
        versions = catching_up.shown_versions(roots, timestamp, snapshot)
        ahead = self.ahead(versions)
        if not ahead:
            return False
        leaps = {role: versions[role] - own for role, own in ahead.items()}
        record = catching_up.Record(self._files.directory)
        record.allow(leaps)
        followed = {role: versions[role] for role in ahead}
        if not self.continue_from(followed, now):
            return False
        record.add(leaps, CaughtUp(now, device, followed))
        return True

    def caught_up(self) -> CaughtUp | None:
        """The latest time that this hub went on from what a device showed."""
        return catching_up.Record(self._files.directory).latest()

    def pending(self) -> dict[str, bytes]:
        """Drafts that wait for signatures made elsewhere, by role, in signing order."""
        return self._files.drafts()

    def role_of(self, data: bytes) -> str:
        """The role whose draft has this content; raises CatalogueError when none that waits has."""
        offered = roles.parse_any(data, "the signed metadata")
        for role, draft in self._files.drafts().items():
            parsed = roles.parse_any(draft, f"drafts/{role}.json")
            if parsed.signed_bytes == offered.signed_bytes:
                return role
        raise CatalogueError(_NOTHING_WAITS)

    def add_signatures(self, data: bytes, now: float) -> list[str]:
        """Take in a draft signed elsewhere; returns the roles still waiting.

        Only what this hub drafted is accepted: a signature doesn't get past the release check.
        """
        offered = roles.parse_any(data, "the signed metadata")
        with self._files.writing():
            for role, draft_bytes in self._files.drafts().items():
                draft = roles.parse_any(draft_bytes, f"drafts/{role}.json")
                if draft.signed_bytes == offered.signed_bytes:
                    draft.signatures.update(offered.signatures)
                    self._files.save_draft(role, draft)
                    break
            else:
                raise CatalogueError(_NOTHING_WAITS)
            self._settle(now)
        return list(self.pending())

    def _propose(self, changes: Mapping[str, Root | Targets], now: float) -> bool:
        """Draft each role's next version, sign what can be signed, publish what is complete."""
        for role in sorted(changes, key=signing_order):
            roles.stamp(role, changes[role], self._files.next_version(role), now)
            draft: AnyMetadata = Metadata(changes[role])
            self._files.save_draft(role, draft)
            # Only now does a draft of its own keys (a root, or one it delegates to) tell who signs.
            ids = {
                key for delegator in self._delegators(role) for key in roles.keyids(delegator, role)
            }
            for signer in self._keyring.signers(ids):
                roles.sign(draft, signer)
            self._files.save_draft(role, draft)
        return self._settle(now)

    def _change(
        self,
        change: Callable[[Basis], Changes],
        now: float,
        dry_run: bool,  # noqa: FBT001 - internal, named by callers
    ) -> SigningPlan:
        """Draft what ``change`` makes of the roles in force; says in words what is to be signed."""
        with self._files.writing():
            root, targets = self._basis("root", Root), self._basis("targets", Targets)
            if root is None or targets is None or self._files.current("root", Root) is None:
                raise CatalogueError("the catalogue's first root and targets are not signed yet")
            models = {
                role: basis
                for role in self._files.leaves()
                if role != "targets" and (basis := self._basis(role, Targets)) is not None
            }
            changes = change(Basis(root, targets, models))
            ceremonies.check_complete(changes)
            if not dry_run:
                self._propose(changes, now)
                return {role: roles.describe_signed(signed) for role, signed in changes.items()}
            for role, signed in changes.items():
                roles.stamp(role, signed, self._files.next_version(role), now)
            return {role: roles.describe_signed(signed) for role, signed in changes.items()}

    def _delegators(self, role: str) -> list[Root | Targets]:
        """Whose keys must sign a draft of the role: of a root both the one in force and itself."""
        if role == "root":
            both = [self._files.current("root", Root), self._files.draft("root", Root)]
            return [metadata.signed for metadata in both if metadata is not None]
        delegator: Root | Targets | None = (
            self._basis("root", Root) if role in ceremonies.TOP else self._basis("targets", Targets)
        )
        return [] if delegator is None else [delegator]

    def _can_sign(self, role: str) -> bool:
        """Whether enough keys of the role are at hand."""
        delegator = self._delegators(role)[0]
        ids = roles.keyids(delegator, role)
        return len(self._keyring.signers(ids)) >= roles.threshold(delegator, role)

    def _settle(self, now: float) -> bool:
        """Publish every draft that is complete; True when any was.

        A root or targets that would leave published roles without enough signatures waits until
        those are signed anew: withdrawing a key never cuts devices off from what it signed.
        """
        old_root = self._files.current("root", Root)
        root = self._next_root(old_root)
        if root is None:
            return False
        targets, done = self._next_targets(root.signed)
        if targets is None and old_root is not None and root is not old_root:
            root = old_root
            targets, done = self._next_targets(root.signed)
        new_root = root is not old_root
        if new_root:
            self._files.publish("root", root)
            self._files.drop_draft("root")
        if targets is not None:
            done |= self._complete_models(targets.signed)
        if done or (new_root and self._files.version("snapshot")):
            self._seal(done, now)
            for role in done:
                self._files.drop_draft(role)
        return bool(done) or new_root

    def _next_root(self, current: Metadata[Root] | None) -> Metadata[Root] | None:
        """A complete draft of the next root, else the one in force."""
        draft = self._files.draft("root", Root)
        complete = (
            draft is not None
            and roles.verified(draft.signed, "root", draft)
            and (current is None or roles.verified(current.signed, "root", draft))
        )
        return draft if complete else current

    def _next_targets(self, root: Root) -> tuple[Metadata[Targets] | None, dict[str, AnyMetadata]]:
        """Targets in force under ``root``: the draft when it is complete and strands no model."""
        draft = self._files.draft("targets", Targets)
        if draft is not None and roles.verified(root, "targets", draft):
            complete = self._complete_models(draft.signed)
            stranded = [
                role
                for role in self._files.leaves()
                if role not in ("targets", *complete) and not self._stands(draft.signed, role)
            ]
            if not stranded:
                return draft, {"targets": draft}
        current = self._files.current("targets", Targets)
        if current is not None and roles.verified(root, "targets", current):
            return current, {}
        return None, {}

    def _complete_models(self, targets: Targets) -> dict[str, AnyMetadata]:
        """Drafts of model roles that enough of their keys in ``targets`` have signed.

        While other targets wait, enough of the keys that those name, too: what is published now
        must stand then.
        """
        found: dict[str, AnyMetadata] = {}
        draft = self._files.draft("targets", Targets)
        coming = targets if draft is None else draft.signed
        for role in self._files.drafts():
            model = None if role in ceremonies.TOP else self._files.draft(role, Targets)
            if (
                model is not None
                and roles.delegates(targets, role)
                and roles.verified(targets, role, model)
                and roles.verified(coming, role, model)
            ):
                found[role] = model
        return found

    def _stands(self, targets: Targets, role: str) -> bool:
        """Whether a published model role is good under these targets."""
        model = self._files.current(role, Targets)
        return model is None or (
            roles.delegates(targets, role) and roles.verified(targets, role, model)
        )

    def _sealed(self, snapshot: Metadata[Snapshot], timestamp: Metadata[Timestamp]) -> bool:
        """Whether both are signed by the keys in force: not so after a crash in a rotation."""
        root = self._files.current("root", Root)
        return root is not None and all(
            roles.verified(root.signed, role, metadata)
            for role, metadata in (("snapshot", snapshot), ("timestamp", timestamp))
        )

    def _seal(self, changed: Mapping[str, AnyMetadata], now: float) -> None:
        """Write changed roles, then the snapshot that names them, then the timestamp."""
        for role, metadata in changed.items():
            self._files.publish(role, metadata)
        current = self._files.current("snapshot", Snapshot)
        versions = {role: metadata.signed.version for role, metadata in changed.items()}
        snapshot = roles.next_snapshot(None if current is None else current.signed, versions)
        self._sign_online("snapshot", snapshot, now)
        self._seal_timestamp(snapshot.version, now)

    def _seal_timestamp(self, snapshot_version: int, now: float) -> None:
        self._sign_online("timestamp", roles.next_timestamp(snapshot_version), now)

    def _sign_online(self, role: str, signed: Snapshot | Timestamp, now: float) -> None:
        roles.stamp(role, signed, self._files.next_version(role), now)
        metadata: Metadata[Any] = Metadata(signed)
        root = self._files.current("root", Root)
        ids = [] if root is None else roles.keyids(root.signed, role)
        for signer in self._keyring.signers(ids)[:1]:
            roles.sign(metadata, signer)
        if not metadata.signatures:
            raise CatalogueError(f"the {role} key that the root names is not on this hub")
        self._files.publish(role, metadata)

    def _basis(self, role: str, kind: type[Kind]) -> Kind | None:
        """What a change starts from: the draft when there is one, else what is published."""
        metadata = self._files.draft(role, kind) or self._files.current(role, kind)
        return None if metadata is None else metadata.signed

    def _behind(self, role: str, reported: int) -> bool:
        own = self._files.version(role)
        return role != "root" and 0 < own < reported <= own + VERSION_LEAP_MAX
