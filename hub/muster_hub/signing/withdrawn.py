"""Forgetting the hub's own keys that were replaced, once nothing names them any more."""

from tuf.api.metadata import Root, Targets

from muster_hub.signing import roles
from muster_hub.signing.catalogue_files import CatalogueFiles
from muster_hub.signing.keys import ONLINE, Keyring


def forget(files: CatalogueFiles, keyring: Keyring) -> None:
    """Delete the hub's own keys that neither what is published nor a draft names."""
    for role in ONLINE:
        both: list[roles.AnyMetadata | None] = (
            [files.current("targets", Targets), files.draft("targets", Targets)]
            if role == "director"
            else [files.current("root", Root), files.draft("root", Root)]
        )
        ids = {key for metadata in both if metadata for key in roles.keyids(metadata.signed, role)}
        if ids:
            keyring.drop_online(role, ids)
