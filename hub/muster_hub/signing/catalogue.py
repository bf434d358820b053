"""The catalogue of what may ever run: a TUF repository kept as files.

``timestamp.json`` names one snapshot, and that one the targets and model roles. All but the
timestamp are written once, so what is published follows from the timestamp alone and readers need
no lock. A change to a role whose key is kept elsewhere waits as a draft for its signatures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from muster_hub.errors import CatalogueError
from muster_hub.signing import roles
from muster_hub.signing.catalogue_files import CatalogueFiles, signing_order
from muster_hub.signing.keys import Keyring
from muster_hub.signing.roles import AnyMetadata, Kind
from muster_protocol import manifest

VERSION_LEAP_MAX = 1_000_000
"""How far ahead a reported version is believed: no device may use up the range of versions."""

FIRST_EPOCH = 1


class Catalogue:
    """The repository in ``directory``; ``create`` fills an empty one."""

    def __init__(self, directory: Path, keyring: Keyring) -> None:
        self._files = CatalogueFiles(directory)
        self._keyring = keyring

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
        targets = self._files.current("targets", Targets)
        return FIRST_EPOCH if targets is None else roles.director_epoch(targets.signed)

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
                roles.delegate_model(targets, model, self._keyring.public("release"))
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

    def retire(self, model: str, version: str, now: float) -> None:
        """Take a version out of the catalogue: no device installs it from then on."""
        name = manifest.role_name(model)
        with self._files.writing():
            role = self._basis(name, Targets)
            if role and role.targets.pop(manifest.target_path(model, version), None):
                self._propose({name: role}, now)

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
                if roles.lifetime(role).due(signed, now)
                and self._keyring.signer(roles.key_role(role)) is not None
            }
            if due:
                return self._propose(due, now)
            if roles.lifetime("snapshot").due(snapshot.signed, now):
                self._seal({}, now)
                return True
            if roles.lifetime("timestamp").due(timestamp.signed, now):
                self._seal_timestamp(snapshot.signed.version, now)
                return True
        return False

    def continue_from(self, reported: Mapping[str, int], now: float) -> bool:
        """Go on from the versions that devices hold, where those are ahead of ours.

        A hub restored from a backup would otherwise publish versions that devices refuse as a
        rollback. ``reported`` maps role names to the highest version any device trusts.
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

    def pending(self) -> dict[str, bytes]:
        """Drafts that wait for signatures made elsewhere, by role, in signing order."""
        return self._files.drafts()

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
                raise CatalogueError(
                    "nothing that waits for signatures has this content: "
                    "fetch the signing request again and sign that"
                )
            self._settle(now)
        return list(self.pending())

    def _propose(self, changes: Mapping[str, Root | Targets], now: float) -> bool:
        """Draft each role's next version, sign what can be signed, publish what is complete."""
        for role in sorted(changes, key=signing_order):
            roles.stamp(role, changes[role], self._files.next_version(role), now)
            draft: AnyMetadata = Metadata(changes[role])
            signer = self._keyring.signer(roles.key_role(role))
            if signer is not None:
                draft.sign(signer)
            self._files.save_draft(role, draft)
        return self._settle(now)

    def _settle(self, now: float) -> bool:
        """Publish every draft that its delegator's keys have signed; True when any was."""
        root = self._settle_root()
        if root is None:
            return False
        done: dict[str, AnyMetadata] = {}
        targets = self._files.current("targets", Targets)
        draft = self._files.draft("targets", Targets)
        if draft is not None and roles.verified(root, "targets", draft):
            targets = done["targets"] = draft
        for role in self._files.drafts():
            model = None if role in {"root", "targets"} else self._files.draft(role, Targets)
            if targets is None or model is None or not roles.delegates(targets.signed, role):
                continue
            if roles.verified(targets.signed, role, model):
                done[role] = model
        if done:
            self._seal(done, now)
            for role in done:
                self._files.drop_draft(role)
        return bool(done)

    def _settle_root(self) -> Root | None:
        """The root in force, after taking in a complete draft of the next one."""
        current = self._files.current("root", Root)
        draft = self._files.draft("root", Root)
        complete = (
            draft is not None
            and roles.verified(draft.signed, "root", draft)
            and (current is None or roles.verified(current.signed, "root", draft))
        )
        if draft is not None and complete:
            self._files.publish("root", draft)
            self._files.drop_draft("root")
            return draft.signed
        return None if current is None else current.signed

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
        metadata.sign(self._keyring.online_signer(roles.key_role(role)))
        self._files.publish(role, metadata)

    def _basis(self, role: str, kind: type[Kind]) -> Kind | None:
        """What a change starts from: the draft when there is one, else what is published."""
        metadata = self._files.draft(role, kind) or self._files.current(role, kind)
        return None if metadata is None else metadata.signed

    def _behind(self, role: str, reported: int) -> bool:
        own = self._files.version(role)
        return role != "root" and 0 < own < reported <= own + VERSION_LEAP_MAX
