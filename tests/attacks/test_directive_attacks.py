"""Attacks on directives: what tells a device which signed model to run."""

import json
from typing import Any

import msgspec
import pytest

from muster_agent.trust.trusted import Trusted
from muster_protocol.wire import directive as directives
from muster_protocol.wire import limits
from muster_protocol.wire.directive import Directive, DirectiveRefused
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.metadata import DIRECTOR_EPOCH_FIELD
from support.trust_device import TrustDevice
from support.tuf_repository import DAY_SECONDS, NOW, Repository, signers


class Adopter:
    """A device's adoption of directives: verify, then accept, then remember."""

    def __init__(self, device: TrustDevice, repository: Repository) -> None:
        self.device = device
        self.repository = repository
        self.adopted = (0, 0)
        self.adopt(repository.directive(generation=5))

    def trusted(self) -> Trusted:
        return self.device.update(self.repository.files)

    def adopt(self, envelope: bytes, now: int = NOW) -> Directive:
        trusted = self.trusted()
        directive = trusted.verify_directive(envelope)
        directives.accept(
            directive, device="dev-1", epoch=trusted.director_epoch, adopted=self.adopted, now=now
        )
        self.adopted = (directive.epoch, directive.generation)
        return directive

    def plain(self) -> bytes:
        """The payload of the directive in force."""
        return directives.encode(self.adopt(self.repository.directive(generation=5)))

    def refuses(self, envelope: bytes, now: int = NOW) -> Refusal:
        before = self.adopted
        with pytest.raises(DirectiveRefused) as caught:
            self.adopt(envelope, now)
        assert self.adopted == before
        assert "\n" not in str(caught.value)
        return caught.value.refusal

    def assert_updates(self) -> None:
        """The honest director is still heard, and a new release still arrives."""
        following = self.repository.directive(
            epoch=self.trusted().director_epoch, generation=self.adopted[1] + 1
        )
        self.adopt(following)
        self.device.assert_updates(self.repository)


@pytest.fixture
def adopter(device: TrustDevice, repository: Repository) -> Adopter:
    return Adopter(device, repository)


def test_a_directive_for_another_device_is_refused(adopter: Adopter) -> None:
    envelope = adopter.repository.directive("dev-2", generation=6)
    assert adopter.refuses(envelope) == Refusal.WRONG_DEVICE
    adopter.assert_updates()


def test_a_replayed_directive_is_refused(adopter: Adopter) -> None:
    old = adopter.repository.directive(generation=4)
    assert adopter.refuses(old) == Refusal.STALE_GENERATION
    adopter.assert_updates()


def test_a_directive_of_an_older_epoch_is_refused(adopter: Adopter) -> None:
    fields = adopter.repository.roles["targets"].signed.unrecognized_fields
    fields[DIRECTOR_EPOCH_FIELD] = 2
    adopter.repository.publish("targets")
    late = adopter.repository.directive(epoch=1, generation=999)
    assert adopter.refuses(late) == Refusal.STALE_EPOCH
    adopter.adopt(adopter.repository.directive(epoch=2, generation=1))
    adopter.assert_updates()


def test_the_highest_generation_signed_by_a_thief_is_outlived_by_a_new_epoch(
    adopter: Adopter,
) -> None:
    highest = 2**53 - 1
    adopter.adopt(adopter.repository.directive(generation=highest))
    honest = adopter.repository.directive(generation=6)
    assert adopter.refuses(honest) == Refusal.STALE_GENERATION
    fields = adopter.repository.roles["targets"].signed.unrecognized_fields
    fields[DIRECTOR_EPOCH_FIELD] = 2
    adopter.repository.rotate_delegated("director")
    adopter.adopt(adopter.repository.directive(epoch=2, generation=1))
    adopter.assert_updates()


def test_a_generation_beyond_every_limit_is_refused(adopter: Adopter) -> None:
    payload = json.loads(adopter.plain())
    payload["generation"] = 2**63
    envelope = adopter.repository.envelope(json.dumps(payload).encode())
    assert adopter.refuses(envelope) == Refusal.MALFORMED
    adopter.assert_updates()


def test_a_directive_signed_by_a_stranger_is_refused(adopter: Adopter) -> None:
    payload = msgspec.json.decode(adopter.repository.directive(generation=6))["payload"]
    forged = adopter.repository.envelope(payload.encode(), keys=signers())
    assert adopter.refuses(forged) == Refusal.BAD_SIGNATURE
    adopter.assert_updates()


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "targets", "root", "model-digits"])
def test_a_directive_signed_by_another_role_is_refused(adopter: Adopter, role: str) -> None:
    keys = adopter.repository.keys[role]
    envelope = adopter.repository.envelope(b"{}", keys=keys)
    assert adopter.refuses(envelope) == Refusal.BAD_SIGNATURE
    adopter.assert_updates()


def test_an_unsigned_directive_is_refused(adopter: Adopter) -> None:
    assert adopter.refuses(adopter.repository.envelope(b"{}", keys=[])) == Refusal.BAD_SIGNATURE
    adopter.assert_updates()


def test_a_withdrawn_director_key_is_refused(adopter: Adopter) -> None:
    stolen = adopter.repository.directive(generation=6)
    adopter.repository.rotate_delegated("director")
    assert adopter.refuses(stolen) == Refusal.BAD_SIGNATURE
    adopter.assert_updates()


def test_the_signature_of_another_directive_is_refused(adopter: Adopter) -> None:
    loads = json.loads(adopter.repository.directive(generation=6))
    other = json.loads(adopter.repository.directive(generation=7))
    loads["signatures"] = other["signatures"]
    assert adopter.refuses(json.dumps(loads).encode()) == Refusal.BAD_SIGNATURE
    adopter.assert_updates()


def test_something_else_signed_by_the_director_is_refused(adopter: Adopter) -> None:
    payload = adopter.plain()
    envelope = adopter.repository.envelope(payload, "application/vnd.in-toto+json")
    assert adopter.refuses(envelope) == Refusal.MALFORMED
    adopter.assert_updates()


def test_a_payload_type_altered_after_signing_is_refused(adopter: Adopter) -> None:
    payload = adopter.plain()
    envelope = json.loads(adopter.repository.envelope(payload, "application/json"))
    envelope["payloadType"] = directives.PAYLOAD_TYPE
    assert adopter.refuses(json.dumps(envelope).encode()) == Refusal.BAD_SIGNATURE
    adopter.assert_updates()


def test_an_expired_directive_is_refused(adopter: Adopter) -> None:
    envelope = adopter.repository.directive(generation=6, expires=NOW + 10)
    assert adopter.refuses(envelope, now=NOW + 10) == Refusal.EXPIRED
    adopter.assert_updates()


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"format": 2}, Refusal.UNKNOWN_FORMAT),
        ({"surprise": 1}, Refusal.MALFORMED),
        ({"device": "../../etc"}, Refusal.MALFORMED),
        ({"slots": {"../up": None}}, Refusal.MALFORMED),
        ({"slots": None}, Refusal.MALFORMED),
        ({"generation": 0}, Refusal.MALFORMED),
        ({"window_seconds": 0}, Refusal.MALFORMED),
        ({"sources": [{"url": "file:///etc/passwd"}]}, Refusal.MALFORMED),
    ],
)
def test_a_signed_directive_that_makes_no_sense_is_refused_by_name(
    adopter: Adopter, change: dict[str, Any], refusal: Refusal
) -> None:
    plain = adopter.plain()
    payload = json.dumps(json.loads(plain) | change).encode()
    assert adopter.refuses(adopter.repository.envelope(payload)) == refusal
    adopter.assert_updates()


def test_an_invented_fallback_can_not_be_expressed(adopter: Adopter) -> None:
    plain = json.loads(adopter.plain())
    plain["slots"]["vision"]["fallback"] = {"kind": "constant", "outputs": {"fault": [0.0]}}
    envelope = adopter.repository.envelope(json.dumps(plain).encode())
    assert adopter.refuses(envelope) == Refusal.MALFORMED
    adopter.assert_updates()


def test_an_endless_directive_is_refused(adopter: Adopter) -> None:
    endless = b"{" + b" " * limits.DIRECTIVE_BYTES_MAX
    assert adopter.refuses(endless) == Refusal.TOO_LARGE
    adopter.assert_updates()


@pytest.mark.parametrize(
    "junk",
    [b"", b"null", b"\0" * 500, b"[" * 10_000, b'{"payload":"!","payloadType":"","signatures":[]}'],
    ids=["empty", "null", "zeroes", "brackets", "not base64"],
)
def test_junk_in_place_of_a_directive_is_refused(adopter: Adopter, junk: bytes) -> None:
    assert adopter.refuses(junk) in {Refusal.MALFORMED, Refusal.BAD_SIGNATURE}
    adopter.assert_updates()


def test_one_director_signature_listed_twice_is_refused(adopter: Adopter) -> None:
    envelope = json.loads(adopter.repository.directive(generation=6))
    envelope["signatures"] *= 2
    assert adopter.refuses(json.dumps(envelope).encode()) == Refusal.MALFORMED
    adopter.assert_updates()


def test_a_directive_can_not_extend_the_life_of_expired_metadata(adopter: Adopter) -> None:
    envelope = adopter.repository.directive(generation=6, expires=NOW + 400 * DAY_SECONDS)
    trusted = adopter.trusted()
    adopter.adopt(envelope)
    assert trusted.expired(NOW + 2 * DAY_SECONDS, "digits") == ("timestamp (1 days ago)",)
    adopter.assert_updates()
