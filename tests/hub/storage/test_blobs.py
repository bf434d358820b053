"""Blobs in a folder, and a bucket that can't be reached; a bucket that can: ``tests/doors``."""

import pytest

from muster_hub.api.hub import Hub
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.errors import ConfigError
from muster_hub.settings import config
from muster_hub.settings.config import BrokerSettings, Http
from muster_hub.storage.blobs import Blobs, BlobsAway, Folder
from muster_hub.storage.bucket import Bucket
from support.blob_contract import CONTRACT
from support.hub_kit import API, open_kit
from support.ports import HOST, free_port


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_in_a_folder(promise, tmp_path):
    promise(Folder(tmp_path))


@pytest.fixture
def away(monkeypatch):
    """A bucket at an address where nobody listens."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    return Bucket("s3://bucket/some/where", endpoint=f"http://{HOST}:{free_port()}")


def test_a_bucket_out_of_reach_says_so_and_is_not_taken_for_an_empty_one(away):
    blobs = Blobs(away)
    for ask in (lambda: blobs.has("0" * 64), lambda: blobs.read("0" * 64), lambda: blobs.put(b"")):
        away.trouble = ""
        with pytest.raises(BlobsAway, match=r"s3://bucket: .*try again"):
            ask()
        assert away.trouble.startswith("s3://bucket: ")


def settings(tmp_path, text):
    data = initialise(tmp_path / "hub", NewHub(("hub.test",), Http(), BrokerSettings())).data
    with (data / "hub.toml").open("a") as file:
        file.write(f"[storage]\n{text}\n")
    return data


@pytest.mark.parametrize(
    "text",
    ['url = "/var/blobs"', 'url = "s3://"', 'url = "s3://b?x=1"', 'endpoint = "https://m.test"',
     'public_url = "https://cdn.test"', 'url = "s3://b"\nendpoint = "m.test"', "cache_bytes = -1"],
)  # fmt: skip
def test_settings_of_no_bucket_are_refused_with_the_file_and_the_key(tmp_path, text):
    with pytest.raises(ConfigError, match=r"hub\.toml.*storage"):
        config.load(settings(tmp_path, text))


def test_a_hub_without_its_bucket_keeps_nothing_and_shows_why(tmp_path, away):
    data = settings(
        tmp_path, f'url = "s3://bucket"\nendpoint = "http://{HOST}:{free_port()}"'
    )  # fmt: skip
    hub = Hub.open(config.load(data), lambda: 0.0)
    try:
        assert hub.health()["storage"] == {"ok": True, "detail": ""}
        with pytest.raises(BlobsAway):
            hub.blobs.put(b"chunk")
        assert not hub.health()["storage"]["ok"]
        assert "s3://bucket" in hub.health()["storage"]["detail"]
    finally:
        hub.store.close()


def test_a_hub_in_a_folder_has_no_part_of_that_name(tmp_path):
    kit = open_kit(tmp_path)
    try:
        assert "storage" not in kit.http.get(f"{API}/health").json()["parts"]
    finally:
        kit.close()
