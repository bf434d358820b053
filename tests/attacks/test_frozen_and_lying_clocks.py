"""Freeze attacks, and clocks that lie: right, 1970, 2100, and a signature from the future."""

import pytest

from muster_agent.trust.time import BUILD_TIME, ClockReading
from muster_agent.trust.trusted import TrustRefused
from muster_protocol.wire.errors import Refusal
from support.trust_device import RIGHT, YEAR_1970, YEAR_2100, TrustDevice
from support.tuf_repository import DAY_SECONDS, NOW, Repository


def test_a_freeze_is_noticed_by_a_right_clock_and_named(
    device: TrustDevice, repository: Repository
) -> None:
    frozen = dict(repository.files)
    late = ClockReading(NOW + 2 * DAY_SECONDS, "synchronised")
    with pytest.raises(TrustRefused, match="freeze") as caught:
        device.update(frozen, late)
    assert caught.value.refusal == Refusal.METADATA_EXPIRED
    repository.now = NOW + 2 * DAY_SECONDS
    device.assert_updates(repository)


def test_a_freeze_does_not_stop_what_was_installed_from_being_known(
    device: TrustDevice, repository: Repository
) -> None:
    late = NOW + 2 * DAY_SECONDS
    with pytest.raises(TrustRefused):
        device.update(repository.files, ClockReading(late, "synchronised"))
    trusted = device.store.trusted()
    assert trusted is not None
    assert trusted.versions["model-digits"] == 3
    with pytest.raises(TrustRefused, match="what runs goes on"):
        trusted.manifest_target("digits", "1.1.0", now=late)
    repository.now = late
    device.assert_updates(repository)


def test_a_freeze_on_a_device_at_1970_can_not_reach_behind_what_it_has_seen(
    device: TrustDevice, repository: Repository
) -> None:
    old = dict(repository.files)
    repository.now += 3 * DAY_SECONDS
    repository.release("digits", "1.2.0")
    device.update(repository.files, YEAR_1970)
    device.restart()
    assert device.store.now(YEAR_1970).seconds == repository.now
    with pytest.raises(TrustRefused) as caught:
        device.update(old, YEAR_1970)
    assert caught.value.refusal in {Refusal.METADATA_ROLLBACK, Refusal.METADATA_EXPIRED}
    device.assert_updates(repository, reading=YEAR_1970)


def test_a_fresh_device_at_1970_refuses_metadata_that_expired_before_it_was_built(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    repository = Repository(now=BUILD_TIME - 300 * DAY_SECONDS)
    device = TrustDevice(tmp_path_factory.mktemp("fresh"), repository.factory_root)
    repository.release("digits", "0.0.1")
    with pytest.raises(TrustRefused) as caught:
        device.update(repository.files, YEAR_1970)
    assert caught.value.refusal == Refusal.METADATA_EXPIRED
    repository.now = NOW
    repository.publish("targets")
    device.assert_updates(repository, reading=YEAR_1970)


def test_a_clock_spoofed_to_2100_blocks_installs_only_while_it_lasts(
    device: TrustDevice, repository: Repository
) -> None:
    repository.release("digits", "1.2.0")
    with pytest.raises(TrustRefused) as caught:
        device.update(repository.files, YEAR_2100)
    assert caught.value.refusal == Refusal.METADATA_EXPIRED
    device.restart()
    assert device.store.now(RIGHT).seconds == NOW
    device.assert_updates(repository)


def test_an_issue_time_of_2100_signed_by_a_thief_ends_with_a_new_root(
    device: TrustDevice, repository: Repository
) -> None:
    honest = repository.now
    repository.now = int(YEAR_2100.wall_seconds)
    repository.write("timestamp")
    repository.publish()
    repository.now = honest
    device.update(repository.files)
    assert device.store.now(RIGHT).seconds == int(YEAR_2100.wall_seconds)
    with pytest.raises(TrustRefused):
        device.assert_updates(repository)
    repository.rotate_root("timestamp", "snapshot")
    repository.publish()
    device.assert_updates(repository)
    assert device.store.now(RIGHT).seconds == NOW


def test_an_expiry_far_ahead_is_never_taken_for_the_time(
    device: TrustDevice, repository: Repository
) -> None:
    assert device.store.now(YEAR_1970).seconds == NOW
    assert max(device.store.trusted().expires.values()) > NOW  # type: ignore[union-attr]  # it is set
    device.assert_updates(repository)


def test_a_root_that_expired_during_a_year_offline_is_replaced_on_return(
    device: TrustDevice, repository: Repository
) -> None:
    repository.now += 400 * DAY_SECONDS
    today = ClockReading(repository.now, "synchronised")
    with pytest.raises(TrustRefused):
        device.update(repository.files, today)
    repository.rotate_root("root")
    repository.publish("targets", "model-digits")
    device.assert_updates(repository)
