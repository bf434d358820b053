"""Expiry of each role blocks new installs, also when it comes long after metadata were verified."""

from pathlib import Path

import pytest

from muster_agent.trust.time import DAY_SECONDS
from muster_agent.trust.trusted import Trusted, TrustRefused
from muster_protocol.wire.errors import Refusal
from support.trust_device import TrustDevice
from support.tuf_repository import NOW, Repository, moment

SOON = NOW + DAY_SECONDS
LATER = NOW + 30 * DAY_SECONDS


def verified(directory: Path, expiring: str) -> Trusted:
    """What a device verified when nothing had expired yet, and one role was to expire first."""
    repository = Repository()
    device = TrustDevice(directory, repository.factory_root)
    repository.release("digits", "1.0.0")
    for role in ("root", "targets", "model-digits", "snapshot", "timestamp"):
        signed = repository.roles[role].signed
        signed.expires = moment(SOON if role == expiring else LATER)
        signed.version += role != "timestamp"
        repository.write(role, repository.keys["root"] if role == "root" else None)
    return device.update(repository.files)


@pytest.mark.parametrize("role", ["root", "targets", "model-digits", "snapshot", "timestamp"])
def test_the_first_role_to_expire_ends_new_installs_at_that_second(tmp_path: Path, role: str):
    trusted = verified(tmp_path, role)
    assert trusted.manifest_target("digits", "1.0.0", now=SOON - 1)
    with pytest.raises(TrustRefused, match=rf"expired: {role} \(0 days ago\)") as refused:
        trusted.manifest_target("digits", "1.0.0", now=SOON)
    assert refused.value.refusal is Refusal.METADATA_EXPIRED


def test_the_expiry_of_one_models_role_concerns_that_model_alone(tmp_path: Path):
    trusted = verified(tmp_path, "model-digits")
    assert trusted.manifest_target("faces", "1.0.0", now=SOON) is None
