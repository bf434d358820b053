"""Enrolment against a real HTTPS server: what it writes, and what each bad input changes."""

import datetime as dt
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from muster_agent.base import config
from muster_agent.identity import identity
from muster_agent.identity.enroll import (
    EnrolError,
    Enrolment,
    EnrolmentRequest,
    enroll,
    read_labels,
)
from muster_agent.trust.time import BUILD_TIME, DAY_SECONDS, ClockReading
from support.enrol_hub import EnrolHub
from support.pki import Authority
from support.tuf_repository import Repository

YEAR_1970 = ClockReading(60.0, "unknown")
ROOT = Repository().factory_root
OTHER_ROOT = Repository().factory_root


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[EnrolHub]:
    (tmp_path / "hub").mkdir()
    start = dt.datetime.fromtimestamp(BUILD_TIME, dt.UTC)
    end = start + dt.timedelta(days=365)
    authority = Authority(tmp_path / "hub", start=start, end=end)
    with EnrolHub(tmp_path / "hub", authority, ROOT) as running:
        yield running


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def root_file(tmp_path: Path) -> Path:
    path = tmp_path / "root.json"
    path.write_bytes(ROOT)
    return path


def run(hub: EnrolHub, directory: Path, **changes: Any) -> Enrolment:
    fields: dict[str, Any] = {"hub_url": hub.url, "token": hub.token}
    return enroll(EnrolmentRequest(directory, **(fields | changes)), YEAR_1970)


def refused(hub: EnrolHub, directory: Path, **changes: Any) -> str:
    before = tree(directory)
    with pytest.raises(EnrolError) as error:
        run(hub, directory, **changes)
    assert tree(directory) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_device_enrols_with_a_token_and_a_root_from_its_installer(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    done = run(hub, directory, root_file=root_file, facts={"machine": "test"})
    assert (done.device, done.broker_host, done.broker_port) == ("dev-1", "broker.example", 8883)
    held = identity.load(directory / "identity")
    assert held.device == "dev-1"
    assert held.expires == done.expires
    assert held.days_left(BUILD_TIME) == 365
    assert stat.S_IMODE(held.key.stat().st_mode) == 0o600
    assert (directory / "trust" / "root.json").read_bytes() == ROOT
    loaded = config.load(directory)
    assert loaded.device == "dev-1"
    assert loaded.settings.hub.url == hub.url
    assert loaded.settings.broker.port == 8883
    assert hub.requests[0]["facts"] == {"machine": "test"}
    assert b"PRIVATE" not in hub.requests[0]["csr_pem"].encode()


def test_a_root_from_the_hub_is_taken_only_with_its_hash(hub: EnrolHub, directory: Path) -> None:
    run(hub, directory, root_sha256=hashlib.sha256(ROOT).hexdigest())
    assert (directory / "trust" / "root.json").read_bytes() == ROOT


def test_a_hub_can_not_hand_its_own_root_to_a_new_device(hub: EnrolHub, directory: Path) -> None:
    hub.root = OTHER_ROOT
    reason = refused(hub, directory, root_sha256=hashlib.sha256(ROOT).hexdigest())
    assert "another factory root" in reason
    assert "must not come from the hub" in refused(hub, directory)
    assert not hub.requests


def test_a_lost_reply_is_asked_for_again_with_the_same_key(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    hub.hang_up = 1
    with pytest.raises(EnrolError, match="try again"):
        run(hub, directory, root_file=root_file)
    assert not (directory / "agent.toml").exists()
    run(hub, directory, root_file=root_file)
    first, second = (request["csr_pem"] for request in hub.requests)
    assert csr_key(first) == csr_key(second)
    run(hub, directory)
    assert identity.load(directory / "identity").device == "dev-1"


def csr_key(pem: str) -> object:
    return x509.load_pem_x509_csr(pem.encode()).public_key()


def test_enrolling_again_never_replaces_a_factory_root(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    run(hub, directory, root_file=root_file)
    root_file.write_bytes(OTHER_ROOT)
    assert "never replaced" in refused(hub, directory, root_file=root_file)


def test_enrolling_again_keeps_what_the_operator_set(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    run(hub, directory, root_file=root_file)
    settings = directory / "agent.toml"
    settings.write_text(settings.read_text().replace("port = 8883", "port = 9993"))
    run(hub, directory)
    assert config.load(directory).settings.broker.port == 9993
    hub.device = "dev-2"
    assert "is for dev-1, the hub says dev-2" in refused(hub, directory)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"token": "nonsense"}, "not an enrolment token"),
        ({"token": "a.b.c"}, "the token is damaged"),
        ({"token": f"t1.secret.{'0' * 64}"}, "not the hub that issued this token"),
        ({"hub_url": "http://127.0.0.1:1"}, "use https://"),
        ({"hub_url": "https://127.0.0.1:99999"}, "use https://"),
        ({"hub_url": "https://127.0.0.1:1"}, "can't reach the hub"),
        ({"device": "../etc"}, "device id"),
        ({"root_file": None}, "no factory root"),
        ({"root_file": None, "root_sha256": "short"}, "--root-sha256"),
        ({"root_file": Path("/nonexistent/root.json")}, "No such file"),
        ({"root_sha256": "0" * 64}, "does not have the hash"),
        ({"device": "dev-9"}, "the hub calls this device dev-1, not dev-9"),
    ],
)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    hub: EnrolHub, directory: Path, root_file: Path, changes: dict[str, Any], word: str
) -> None:
    identity.make_key(directory / "identity" / "key.pem")
    assert word in refused(hub, directory, **({"root_file": root_file} | changes))


def test_a_file_that_is_no_root_is_refused(hub: EnrolHub, directory: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"signed": {}}')
    assert "is not a TUF root" in refused(hub, directory, root_file=bad)


@pytest.mark.parametrize("status", [400, 401, 403, 409])
def test_a_token_the_hub_refuses_leaves_no_key_behind(
    hub: EnrolHub, directory: Path, root_file: Path, status: int
) -> None:
    hub.refusal = (status, {"title": "no", "detail": "the token expired\nyesterday"})
    reason = refused(hub, directory, root_file=root_file)
    assert reason.endswith("the token expired yesterday")


def test_an_imposter_with_a_copy_of_the_ca_certificate_is_refused(
    hub: EnrolHub, directory: Path, root_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "imposter").mkdir()
    start = dt.datetime.fromtimestamp(BUILD_TIME, dt.UTC)
    stranger = Authority(tmp_path / "imposter", start=start)
    with EnrolHub(tmp_path / "imposter", stranger, ROOT) as imposter:
        imposter.offered_ca = hub.authority.cert.read_bytes()
        reason = refused(imposter, directory, root_file=root_file, token=hub.token)
    assert "not signed by the CA" in reason
    assert not imposter.requests


def test_a_certificate_for_another_key_is_refused(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    identity.make_key(directory / "identity" / "key.pem")
    hub.changes = {"certificate_pem": hub.authority.issue("dev-1").cert.read_text()}
    assert "another key" in refused(hub, directory, root_file=root_file)


def test_a_certificate_for_another_device_is_refused(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    identity.make_key(directory / "identity" / "key.pem")
    hub.changes = {"device": "dev-2"}
    assert "names another device" in refused(hub, directory, root_file=root_file)


def test_a_certificate_of_another_ca_is_refused(
    hub: EnrolHub, directory: Path, root_file: Path, tmp_path: Path
) -> None:
    identity.make_key(directory / "identity" / "key.pem")
    (tmp_path / "other").mkdir()
    hub.changes = {"ca_pem": Authority(tmp_path / "other").cert.read_text()}
    assert "other CAs than the token's" in refused(hub, directory, root_file=root_file)
    hub.changes = {"ca_pem": "junk"}
    assert "can't be read" in refused(hub, directory, root_file=root_file)
    hub.changes = {"broker": {"host": "", "port": 0}}
    assert "makes no sense" in refused(hub, directory, root_file=root_file)


def test_a_hub_certificate_that_has_expired_by_trusted_time_is_refused(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    late = ClockReading(BUILD_TIME + 400 * DAY_SECONDS, "synchronised")
    with pytest.raises(EnrolError, match="expired on"):
        enroll(EnrolmentRequest(directory, hub.url, hub.token, root_file=root_file), late)


def test_a_missing_or_foreign_identity_is_told_in_one_line(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    with pytest.raises(identity.IdentityError, match="enrol this device"):
        identity.load(directory / "identity")
    run(hub, directory, root_file=root_file)
    identity.make_key(directory / "identity" / "key.pem")
    with pytest.raises(identity.IdentityError, match="is not for the key"):
        identity.load(directory / "identity")


def test_what_would_fail_on_the_device_is_found_before_the_token_is_spent(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    trust = directory / "trust"
    trust.write_text("a file where a directory must be")
    assert "can't write" in refused(hub, directory, root_file=root_file)
    trust.unlink()
    settings = directory / "agent.toml"
    settings.write_text("device = ")
    assert "agent.toml" in refused(hub, directory, root_file=root_file)
    settings.write_text('device = "dev-9"\n[broker]\nhost = "localhost"\n')
    assert "is for dev-9" in refused(hub, directory, root_file=root_file, device="dev-1")
    assert hub.requests == []
    settings.unlink()
    run(hub, directory, root_file=root_file)
    assert len(hub.requests) == 1


def test_a_hub_is_found_by_an_ipv6_address(
    hub: EnrolHub, tmp_path: Path, directory: Path, root_file: Path
) -> None:
    with EnrolHub(tmp_path / "hub", hub.authority, ROOT, "::1") as found:
        assert found.url.startswith("https://[::1]:")
        assert run(found, directory, root_file=root_file).device == "dev-1"
        assert config.load(directory).settings.hub.url == found.url


def test_labels_come_from_a_file_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text("# of this card\nline = 2\n\nhall=3/a # upstairs\n")
    assert read_labels(path) == {"line": "2", "hall": "3/a"}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"line", "line 1: a label has the form key=value"),
        (b"a=1\nline=\n", "line 2: a label has the form key=value"),
        (b"=2", "line 1: a label has the form key=value"),
        (b"a=1\na=2", "line 2: a is there twice"),
        (b"\xff=1", "no text in UTF-8"),
        (b"#" * 20_000, "is it the right file?"),
    ],
)
def test_a_file_of_labels_that_makes_no_sense_is_refused_by_the_line(
    tmp_path: Path, data: bytes, named: str
) -> None:
    path = tmp_path / "labels"
    path.write_bytes(data)
    with pytest.raises(EnrolError, match=named.replace("?", r"\?")):
        read_labels(path)


def test_what_a_device_says_of_itself_goes_with_its_request_and_nothing_goes_without_it(
    hub: EnrolHub, directory: Path, root_file: Path
) -> None:
    run(hub, directory, root_file=root_file, labels={"line": "2"})
    run(hub, directory.with_name("other"), root_file=root_file)
    said, silent = hub.requests
    assert said["labels"] == {"line": "2"}
    assert "labels" not in silent, "a hub that doesn't know the field refuses it"
