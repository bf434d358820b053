"""``muster-hub broker-files``: what a broker of the site's own gets from the hub's authority."""

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from muster_hub.admin import main
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.settings.config import BrokerSettings, Http


def made(tmp_path: Path, url: str) -> Path:
    return initialise(tmp_path / "hub", NewHub(("hub.test",), Http(), BrokerSettings(url=url))).data


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main.main(["broker-files", *map(str, arguments)])
    said = capsys.readouterr()
    assert (ended.value.code or 0) == code, said
    return said.err if code else said.out


def test_a_broker_gets_a_certificate_for_its_names_and_keeps_it_while_it_is_good(tmp_path, capsys):
    data, to = made(tmp_path, "mqtts://broker.test:8883"), tmp_path / "files"
    assert "for broker.test: new." in run(capsys, to, "--data", data)
    first = (to / "server.pem").read_bytes()
    assert "kept." in run(capsys, to, "--data", data)
    assert (to / "server.pem").read_bytes() == first
    assert ": new." in run(capsys, to, "--name", "b.test", "--name", "10.0.0.1", "--data", data)
    held = x509.load_pem_x509_certificate((to / "server.pem").read_bytes())
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b.test"]


def test_all_that_mosquitto_reads_is_there_and_the_key_is_for_its_owner_alone(tmp_path, capsys):
    data, to = made(tmp_path, "mqtts://broker.test:8883"), tmp_path / "files"
    run(capsys, to, "--data", data)
    assert {path.name for path in to.iterdir()} == {
        "ca.pem", "server.pem", "server.key", "crl.pem", "muster.acl",
    }  # fmt: skip
    assert stat.S_IMODE((to / "server.key").stat().st_mode) == 0o600
    ssl.create_default_context(cafile=to / "ca.pem").load_cert_chain(
        to / "server.pem", to / "server.key"
    )
    assert x509.load_pem_x509_crl((to / "crl.pem").read_bytes()).is_signature_valid(
        x509.load_pem_x509_certificate((to / "ca.pem").read_bytes()).public_key()
    )


def test_a_hub_that_runs_its_own_broker_says_that_it_needs_none(tmp_path, capsys):
    said = run(capsys, tmp_path / "files", "--data", made(tmp_path, ""), code=1)
    assert r"set [broker] url" in said
    assert not (tmp_path / "files").exists()
