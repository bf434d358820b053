"""Attacks on a device's first contact: whoever stands between it and the hub gets nothing."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent.identity import identity
from muster_agent.identity.enroll import EnrolError, EnrolmentRequest, enroll
from muster_agent.trust.time import BUILD_TIME, ClockReading
from muster_protocol.wire.chunks import sha256_hex
from support.enrol_hub import EnrolHub
from support.pki import DAY, Authority
from support.trust_device import TrustDevice
from support.tuf_repository import Repository

START = dt.datetime.fromtimestamp(BUILD_TIME, dt.UTC)
NEW = ClockReading(60.0, "unknown")


class Newcomer:
    """A device out of its box, with a factory root from its installer, and the hub it is for."""

    def __init__(self, directory: Path, repository: Repository) -> None:
        self.directory = directory / "device"
        self.repository = repository
        self.root = directory / "root.json"
        self.root.write_bytes(repository.factory_root)
        self.hub = self._hub(directory / "hub", "ca")
        self.thief = self._hub(directory / "thief", "thief")

    def _hub(self, directory: Path, name: str) -> EnrolHub:
        directory.mkdir()
        authority = Authority(directory, name, start=START - DAY, end=START + 3650 * DAY)
        return EnrolHub(directory, authority, self.repository.factory_root)

    def enroll(self, url: str) -> None:
        enroll(EnrolmentRequest(self.directory, url, self.hub.token, root_file=self.root), NEW)

    def refuses(self, url: str) -> str:
        with pytest.raises(EnrolError) as caught:
            self.enroll(url)
        assert not (self.directory / "agent.toml").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def assert_updates(self) -> None:
        """The honest hub still lets it in, and what it then trusts brings releases."""
        self.enroll(self.hub.url)
        assert identity.load(self.directory / "identity").device == "dev-1"
        kept = (self.directory / "trust" / "root.json").read_bytes()
        TrustDevice(self.directory / "trusted", kept).assert_updates(self.repository)


@pytest.fixture
def newcomer(tmp_path: Path, repository: Repository) -> Iterator[Newcomer]:
    made = Newcomer(tmp_path, repository)
    with made.hub, made.thief:
        yield made


def test_a_hub_of_another_authority_never_sees_the_token(newcomer: Newcomer) -> None:
    assert "is not the hub that issued this token" in newcomer.refuses(newcomer.thief.url)
    assert not newcomer.thief.requests
    newcomer.assert_updates()


@pytest.mark.parametrize("first", ["the hub's", "the thief's"])
def test_an_authority_slipped_in_beside_the_hub_s_is_not_trusted(
    newcomer: Newcomer, first: str
) -> None:
    pair = [newcomer.hub.authority.cert.read_bytes(), newcomer.thief.authority.cert.read_bytes()]
    newcomer.thief.offered_ca = b"".join(pair if first == "the hub's" else pair[::-1])
    newcomer.refuses(newcomer.thief.url)
    assert not newcomer.thief.requests, "the token must not reach who is in between"
    newcomer.assert_updates()


def test_a_certificate_by_another_authority_is_refused(newcomer: Newcomer) -> None:
    newcomer.hub.changes = {"ca_pem": newcomer.thief.authority.cert.read_text()}
    assert "other CAs than the token's" in newcomer.refuses(newcomer.hub.url)
    newcomer.hub.changes = {}
    newcomer.assert_updates()


def test_a_certificate_for_another_key_is_refused(newcomer: Newcomer) -> None:
    pair = newcomer.hub.authority.issue("dev-1", file="other")
    newcomer.hub.changes = {"certificate_pem": pair.cert.read_text()}
    assert "another key" in newcomer.refuses(newcomer.hub.url)
    newcomer.hub.changes = {}
    newcomer.assert_updates()


def test_a_hub_that_hands_its_own_root_to_a_new_device_is_refused(newcomer: Newcomer) -> None:
    newcomer.root.write_bytes(Repository().factory_root)
    honest = newcomer.repository.factory_root
    newcomer.hub.root = newcomer.root.read_bytes()
    request = EnrolmentRequest(
        newcomer.directory, newcomer.hub.url, newcomer.hub.token, root_sha256=sha256_hex(honest)
    )
    with pytest.raises(EnrolError, match="hands out another factory root"):
        enroll(request, NEW)
    assert not newcomer.hub.requests
    newcomer.root.write_bytes(honest)
    newcomer.assert_updates()
