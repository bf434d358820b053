"""Chunks and ranges of files over HTTP: what a device's token opens, and nothing else."""

import random
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.access import capability
from muster_hub.api.routes import chunks
from muster_hub.registry.bundle import pack
from muster_hub.storage.models import Device, DirectiveRow
from muster_protocol.wire import directive, manifest
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.limits import CHUNK_BYTES, KIB
from support.hub_kit import API, is_problem, open_kit, serve


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def add_devices(kit, *names):
    with kit.hub.store.write() as session:
        for name in names:
            session.add(Device(id=name, created=1))


def test_a_device_fetches_chunks_with_its_directive_s_token(kit):
    add_devices(kit, "cam-1")
    name = kit.hub.blobs.put(b"weights")
    token = kit.hub.chunk_token("cam-1", int(kit.clock()) + 60)

    def fetch(sha256, bearer):
        headers = {"Authorization": f"Bearer {bearer}"}
        return kit.http.get(f"{API}/chunks/{sha256}", headers=headers)

    assert fetch(name, token).content == b"weights"
    is_problem(fetch("0" * 64, token), 404, "not_found")
    is_problem(fetch("passwd", token), 422, "invalid")
    is_problem(fetch(name, token[:-1] + ("0" if token[-1] != "0" else "1")), 401, "unauthenticated")
    stranger = kit.hub.chunk_token("cam-2", int(kit.clock()) + 60)
    is_problem(fetch(name, stranger), 403, "forbidden")
    with kit.hub.store.write() as session:
        session.get_one(Device, "cam-1").revoked = True
    is_problem(fetch(name, token), 403, "forbidden")
    kit.clock.now += 60
    is_problem(fetch(name, token), 401, "unauthenticated")


@pytest.fixture
def bundle(kit, tmp_path):
    """A version with a file of three chunks and one of a few bytes, assigned to cam-1 alone."""
    add_devices(kit, "cam-1", "cam-2")
    content = random.Random(1).randbytes(2 * CHUNK_BYTES + 10)
    (tmp_path / "m.onnx").write_bytes(content)
    (tmp_path / "golden.npz").write_bytes(b"golden")
    (tmp_path / "other.bin").write_bytes(b"not in it")
    packed = pack(
        {name: tmp_path / name for name in ("m.onnx", "golden.npz")}, kit.hub.blobs.put,
        model="m", version="1", created=0,
        inputs=(manifest.Tensor("x", "FP32", (-1, 1)),),
        outputs=(manifest.Tensor("y", "FP32", (-1, 1)),),
        builds=(manifest.Build("onnx", "m.onnx", 1 << 20),), golden=manifest.Golden("golden.npz"),
    )  # fmt: skip
    goal = directive.Goal("m", "1", sha256_hex(packed), len(packed))
    payload = directive.encode(
        directive.Directive(
            device="cam-1", epoch=1, generation=1, issued=0, expires=1,
            slots={"main": directive.Slot(goal)},
        )
    )  # fmt: skip
    with kit.hub.store.write() as session:
        session.add(
            DirectiveRow(
                device="cam-1", generation=1, epoch=1, issued=0, expires=1, payload=payload,
                envelope=b"", content_sha256="",
            )
        )  # fmt: skip
    return content


def fetch_file(kit, name, asked=None, device="cam-1"):
    token = kit.hub.chunk_token(device, int(kit.clock()) + 60)
    headers = {"Authorization": f"Bearer {token}"} | ({"Range": asked} if asked else {})
    return kit.http.get(f"{API}/chunks/files/{name}", headers=headers)


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-131199", 100, 131200),
        ("bytes=131072-262143", 131072, 262144),
        ("bytes=200000-", 200000, None),
        ("bytes=200000-999999999999999", 200000, None),
        ("bytes=-20", -20, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_device_fetches_a_range_of_a_file_of_its_bundle(kit, bundle, asked, first, end):
    answer = fetch_file(kit, sha256_hex(bundle), asked)
    assert answer.status_code == 206
    assert answer.content == bundle[first:end]
    size = len(bundle)
    first, end = first % size, end or size
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"


@pytest.mark.parametrize("asked", [None, "bytes=-", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b"])
def test_without_a_range_that_is_understood_the_whole_file_comes(kit, bundle, asked, monkeypatch):
    monkeypatch.setattr(chunks, "WHOLE_BYTES_MAX", 1000)
    answer = fetch_file(kit, sha256_hex(bundle), asked)
    assert (answer.status_code, answer.content) == (200, bundle)
    assert fetch_file(kit, sha256_hex(b"golden"), asked).content == b"golden"


def test_a_range_beyond_the_file_is_refused_with_its_size(kit, bundle):
    for asked in (f"bytes={len(bundle)}-", "bytes=5-4", "bytes=-0"):
        answer = fetch_file(kit, sha256_hex(bundle), asked)
        is_problem(answer, 416, "no_such_range")
        assert answer.headers["content-range"] == f"bytes */{len(bundle)}"


def test_a_device_gets_no_file_that_its_directive_does_not_name(kit, bundle):
    is_problem(fetch_file(kit, sha256_hex(bundle), device="cam-2"), 404, "not_found")
    is_problem(fetch_file(kit, sha256_hex(b"not in it")), 404, "not_found")
    is_problem(fetch_file(kit, sha256_hex(bundle), device="cam-3"), 403, "forbidden")
    is_problem(kit.http.get(f"{API}/chunks/files/{sha256_hex(bundle)}"), 401, "unauthenticated")


@given(token=st.text(max_size=100), device=st.text(max_size=20), expires=st.integers(0, 2**60))
def test_no_text_passes_for_a_chunk_token(token, device, expires):
    key = b"k" * 32
    assert capability.check(key, token, 0) is None
    minted = capability.mint(key, device, expires)
    assert capability.check(b"j" * 32, minted, -1) is None


@pytest.fixture
def port(kit):
    """Of the same hub behind TLS."""
    certificate, key = kit.hub.server_certificate()
    server, thread, url = serve(kit.hub, ssl_certfile=certificate, ssl_keyfile=key)
    yield int(url.rpartition(":")[2])
    server.should_exit = True
    thread.join()


def tls_records(port, path, headers):
    """What an answer takes on the wire: the length of each record of TLS, in order."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going)
    wire, answer = bytearray(), bytearray()
    asked = f"GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n"
    asked += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        unsaid = asked.encode()
        while True:
            try:
                if unsaid:
                    tls.write(unsaid)
                    unsaid = b""
                while data := tls.read():
                    answer += data
                break
            except ssl.SSLWantReadError:
                link.sendall(going.read())
            data = link.recv(65_536)
            if not data:
                break
            wire += data
            coming.write(data)
    lengths = []
    while len(wire) >= 5:
        lengths.append(int.from_bytes(wire[3:5], "big"))
        del wire[: 5 + lengths[-1]]
    return lengths, bytes(answer)


@pytest.mark.parametrize(
    ("asked", "most"), [(f"0-{CHUNK_BYTES - 1}", chunks.RECORD_BYTES), ("0-200000", 16 * KIB)]
)
def test_of_a_single_chunk_a_link_that_breaks_loses_little(kit, port, bundle, asked, most):
    token = kit.hub.chunk_token("cam-1", int(kit.clock()) + 60)
    headers = {"Authorization": f"Bearer {token}", "Range": f"bytes={asked}"}
    lengths, answer = tls_records(port, f"{API}/chunks/files/{sha256_hex(bundle)}", headers)
    assert answer.endswith(bundle[int(asked[:1]) : int(asked[2:]) + 1])
    assert most < max(lengths) < most + 100
