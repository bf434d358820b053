"""A fleet's honest hub and a device that has taken two releases from it: where attacks begin."""

from pathlib import Path

import pytest

from support.trust_device import TrustDevice
from support.tuf_repository import Repository


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def device(tmp_path: Path, repository: Repository) -> TrustDevice:
    """It has installed 1.0.0 and 1.1.0, so there is something to roll back to."""
    made = TrustDevice(tmp_path, repository.factory_root)
    for version in ("1.0.0", "1.1.0"):
        repository.release("digits", version)
        made.update(repository.files)
    return made
