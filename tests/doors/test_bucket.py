"""Blobs in an S3 bucket as moto has it: a folder's promises, and a device that gets one there."""

import json
import queue
import time

import botocore.session
import pytest

from muster_agent.fetch.http_source import HttpSource
from muster_agent.trust.time import Instant
from muster_hub.api.hub import Hub
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.settings import config
from muster_hub.settings.config import BrokerSettings, Http
from muster_hub.storage.blobs import Blobs, BlobsAway
from muster_hub.storage.bucket import Bucket
from muster_protocol.wire.directive import Source
from support import moto_server
from support.blob_contract import CONTRACT

pytestmark = [pytest.mark.doors, pytest.mark.timeout(900)]
SPARE_BYTES = 1 << 20


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    with moto_server.serving(tmp_path_factory.mktemp("moto")) as variables:
        yield variables


@pytest.fixture
def bucket(variables, monkeypatch, request):
    """An empty bucket."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    name = f"blobs-{abs(hash(request.node.name))}"
    botocore.session.get_session().create_client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": moto_server.REGION}
    )
    return name


@pytest.mark.parametrize("cache_bytes", [0, SPARE_BYTES])
@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_in_a_bucket(promise, cache_bytes, bucket, variables):
    endpoint = variables["AWS_ENDPOINT_URL"]
    promise(Bucket(f"s3://{bucket}/fleet/one", endpoint=endpoint, cache_bytes=cache_bytes))


def test_what_was_read_lately_is_read_from_memory_up_to_its_bound(bucket, variables):
    endpoint = variables["AWS_ENDPOINT_URL"]
    place = Bucket(f"s3://{bucket}", endpoint=endpoint, cache_bytes=250)
    names = [Blobs(place).put(bytes([number]) * 100) for number in range(4)]
    for held_bytes, name in zip((100, 200, 200, 200), names, strict=True):
        assert place.read(name) is not None
        assert place.held_bytes == held_bytes
    session = botocore.session.get_session()
    for name in names:
        session.create_client("s3").delete_object(Bucket=bucket, Key=name)
    assert [place.read(name) is not None for name in names] == [False, False, True, True]


def test_a_bucket_that_is_none_is_away_and_not_empty(bucket, variables):
    del bucket
    place = Bucket("s3://no-such-bucket", endpoint=variables["AWS_ENDPOINT_URL"])
    with pytest.raises(BlobsAway, match="NoSuchBucket"):
        place.read("0" * 64)
    with pytest.raises(BlobsAway, match="no-such-bucket"):
        Blobs(place).put(b"lost")


def test_a_hub_keeps_its_chunks_there_and_a_device_gets_one_by_its_hash(
    bucket, variables, tmp_path
):
    endpoint = variables["AWS_ENDPOINT_URL"]
    data = initialise(tmp_path / "hub", NewHub(("hub.test",), Http(), BrokerSettings())).data
    before = Blobs(data / "blobs").put(b"from before")
    with (data / "hub.toml").open("a") as file:
        file.write(f'[storage]\nurl = "s3://{bucket}/fleet"\nendpoint = "{endpoint}"\n'
                   f'public_url = "{endpoint}/{bucket}/fleet"\n')  # fmt: skip
    hub = Hub.open(config.load(data), time.time)
    try:
        assert hub.blobs.read(before) == b"from before"
        chunk = hub.blobs.put(b"a chunk")
        assert not (data / "blobs" / chunk[:2] / chunk).exists()
        assert hub.health()["storage"] == {"ok": True, "detail": ""}
    finally:
        hub.store.close()
    readable = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
                "Resource": f"arn:aws:s3:::{bucket}/fleet/*"}  # fmt: skip
    botocore.session.get_session().create_client("s3").put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [readable]})
    )
    answers: queue.Queue = queue.Queue()
    source = HttpSource(data / "ca.pem", answers.put, lambda: Instant(time.time(), trusted=True))
    source.start()
    try:
        source.get(0, Source(url=hub.config.storage.public_url), chunk)
        assert answers.get(timeout=60).data == b"a chunk"
    finally:
        source.stop()
