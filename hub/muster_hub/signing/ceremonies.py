"""Changing who may sign, as values: from the roles in force to the roles to be signed. Pure.

Each function takes a ``Basis`` (fresh copies it may change) and returns the roles that need a new
version. What is signed, checked and published then is the catalogue's affair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
from tuf.api.metadata import Role as RootRole
from tuf.api.metadata import Root, Targets

from muster_hub.errors import CatalogueError, NotFound
from muster_hub.signing import roles
from muster_hub.signing.keys import KeyGroup
from muster_protocol.wire import directive, manifest
from muster_protocol.wire.contact import Approved
from muster_protocol.wire.metadata import CONTACT_FIELD, DIRECTOR_EPOCH_FIELD

Changes = dict[str, Root | Targets]
TOP = ("root", "targets", "snapshot", "timestamp")
RELEASE = "release"
"""Every model's keys at once, and those of models to come."""


@dataclass(frozen=True)
class Basis:
    """``models`` are the published model roles by role name."""

    root: Root
    targets: Targets
    models: Mapping[str, Targets]


def set_keys(basis: Basis, role: str, keys: KeyGroup) -> Changes:
    """Give ``root``, ``targets``, ``snapshot``, ``timestamp``, ``director``, ``release`` or one
    ``model-<name>`` other keys. Keys left out are withdrawn. Raises NotFound.
    """
    if role in TOP:
        return _set_top(basis, role, keys)
    delegations = roles.delegations_of(basis.targets)
    known = delegations.roles or {}
    if role == RELEASE:
        chosen = sorted(name for name in known if name != directive.ROLE)
    elif role in known:
        chosen = [role]
    else:
        raise NotFound(f"the catalogue has no role {role!r}: one of {', '.join(sorted(known))}")
    for name in chosen:
        known[name].keyids = keys.ids
        known[name].threshold = keys.threshold
    delegations.keys |= {key.keyid: key for key in keys.keys}
    used = {keyid for delegated in known.values() for keyid in delegated.keyids}
    delegations.keys = {keyid: key for keyid, key in delegations.keys.items() if keyid in used}
    if not chosen:
        return {}
    # What withdrawn keys signed must be signed by others before they can be withdrawn.
    signed_anew = {name: basis.models[name] for name in chosen if name in basis.models}
    return {"targets": basis.targets, **signed_anew}


def _set_top(basis: Basis, role: str, keys: KeyGroup) -> Changes:
    root = basis.root
    root.roles[role] = RootRole(keys.ids, keys.threshold)
    root.keys |= {key.keyid: key for key in keys.keys}
    used = {keyid for role in root.roles.values() for keyid in role.keyids}
    root.keys = {keyid: key for keyid, key in root.keys.items() if keyid in used}
    return {"root": root, "targets": basis.targets} if role == "targets" else {"root": root}


def next_epoch(basis: Basis) -> Changes:
    """Begin a new director epoch: whatever generation was signed before counts for nothing."""
    epoch = roles.director_epoch(basis.targets)
    basis.targets.unrecognized_fields[DIRECTOR_EPOCH_FIELD] = epoch + 1
    return {"targets": basis.targets}


def set_contact(basis: Basis, change: Callable[[Approved], Approved]) -> Changes:
    """Name where devices may be sent. A hub's own keys alone can't: it takes those of targets."""
    wanted = change(roles.contact(basis.targets) or Approved())
    basis.targets.unrecognized_fields[CONTACT_FIELD] = msgspec.to_builtins(wanted)
    return {"targets": basis.targets}


def retire(basis: Basis, model: str, version: str | None) -> Changes:
    """Take one version, or all of a model, out of what may be installed.

    The role stays, empty: devices refuse a catalogue from which a role has vanished. Raises
    NotFound.
    """
    name = manifest.role_name(model)
    role = basis.models.get(name)
    if role is None:
        raise NotFound(f"no version of {model!r} was ever released")
    if version is None:
        role.targets.clear()
    elif role.targets.pop(manifest.target_path(model, version), None) is None:
        raise NotFound(f"{model} {version} is not released, or is retired already")
    return {name: role}


def check_complete(changes: Mapping[str, object]) -> None:
    """Raise CatalogueError when a change would change nothing."""
    if not changes:
        raise CatalogueError("nothing would change: no model has been released yet")
