"""Models that a release key signed and that turn against their device: it updates all the same."""

import contextlib
import hashlib
import os
import socket
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from muster_agent.isolation.cage import Rung
from muster_agent.worker.events import Exited, Failed, Ready
from muster_agent.worker.http1 import BODY_BYTES_MAX
from muster_protocol.wire.errors import Refusal
from support.models import dense_onnx, weights, write_bundle
from support.trust_device import TrustDevice
from support.tuf_repository import Repository
from support.workers import WAIT_SECONDS, Client, Workers, infer_body

INFER = "/v2/models/dense/infer"
X = [1.0, 2.0, 3.0, 4.0]


def assert_updates(device: TrustDevice, repository: Repository, slot: Workers) -> None:
    """The device takes the next release, and a worker serves it on the same sockets."""
    device.assert_updates(repository)
    bundle = slot.directory / "next"
    worker = slot.start(bundle, *write_bundle(bundle, version="2"))
    slot.wait(worker, Ready)
    worker.accept()
    with Client(slot.sockets.path) as client:
        assert client.call("POST", INFER, infer_body(X))[0] == 200


@pytest.mark.parametrize("rung", list(Rung))
def test_a_model_that_names_a_key_as_its_weights_reads_nothing(
    rung: Rung, tmp_path: Path, device: TrustDevice, repository: Repository
) -> None:
    key = tmp_path / "identity.key"
    key.write_bytes(bytes(range(48)))
    model = onnx.load_from_string(dense_onnx(*weights()))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=f"../{key.name}")
    with Workers(tmp_path) as slot:
        signed = write_bundle(
            tmp_path / "b", runtimes=("onnx",), files={"onnx": model.SerializeToString()}
        )
        worker = slot.start(tmp_path / "b", *signed, rung=rung)
        event = slot.events[worker.spec.worker_id].get(timeout=WAIT_SECONDS)
        assert isinstance(event, Failed)
        assert event.refusal is Refusal.LOAD_FAILED
        assert "no file of its bundle" in event.detail
        assert_updates(device, repository, slot)


def test_tolerances_that_make_golden_vectors_an_oracle_are_refused(
    tmp_path: Path, device: TrustDevice, repository: Repository
) -> None:
    """With any tolerance allowed, pass or fail would tell a number bit by bit."""
    with Workers(tmp_path) as slot:
        _, sha256 = write_bundle(tmp_path / "b")
        path = tmp_path / "b" / "manifest.json"
        for field, value in (("atol", 1e9), ("rtol", 0.5), ("atol", -1.0)):
            text = path.read_text()
            listing, _ = write_bundle(tmp_path / "good")
            golden = f'"file":"golden.npz","{field}":{value}'
            path.write_text(text.replace('"file":"golden.npz"', golden))
            worker = slot.start(tmp_path / "b", listing, sha256_of(path))
            event = slot.events[worker.spec.worker_id].get(timeout=WAIT_SECONDS)
            assert isinstance(event, Failed)
            assert event.refusal is Refusal.MALFORMED
            path.write_text(text)
        assert sha256_of(path) == sha256
        assert_updates(device, repository, slot)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_junk_left_in_the_handover_channel_does_not_block_the_way_back(
    tmp_path: Path, device: TrustDevice, repository: Repository
) -> None:
    with Workers(tmp_path) as slot, Path("/dev/null").open("rb") as null:
        for _ in range(50):
            socket.send_fds(slot.sockets.handover_out, [b"\0"], [null.fileno()])
        assert_updates(device, repository, slot)


def test_a_slot_filled_with_connections_by_its_last_worker_is_served_again(
    tmp_path: Path, device: TrustDevice, repository: Repository
) -> None:
    with Workers(tmp_path) as slot:
        kept = []
        for _ in range(300):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                socket.send_fds(slot.sockets.handover_out, [b"\0"], [theirs.fileno()])
            except BlockingIOError:
                break  # the channel holds no more
            finally:
                kept.append(ours)
                theirs.close()
        assert_updates(device, repository, slot)
        for each in kept:
            each.close()


def test_a_ring_cut_short_under_its_worker_ends_that_worker_alone(
    tmp_path: Path, device: TrustDevice, repository: Repository
) -> None:
    with Workers(tmp_path) as slot:
        bundle = tmp_path / "b"
        worker = slot.start(bundle, *write_bundle(bundle))
        slot.wait(worker, Ready)
        worker.accept()
        os.truncate(tmp_path / "w0.ring", 0)
        with Client(slot.sockets.path) as client:
            client.send("POST", INFER, b'{"inputs":[]}')
        slot.wait(worker, Exited)
        assert_updates(device, repository, slot)


def test_unfinished_requests_do_not_end_a_release_in_probation(
    tmp_path: Path, device: TrustDevice, repository: Repository
) -> None:
    with Workers(tmp_path) as slot:
        bundle = tmp_path / "b"
        worker = slot.start(bundle, *write_bundle(bundle))
        slot.wait(worker, Ready)
        worker.accept()
        rude = [Client(slot.sockets.path) for _ in range(24)]
        for each in rude:
            each.socket.settimeout(10)
            head = f"POST {INFER} HTTP/1.1\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n".encode()
            with contextlib.suppress(OSError):  # refused before it had sent all
                each.socket.sendall(head + bytes(BODY_BYTES_MAX - 1))
        assert worker.alive()
        for each in rude:
            each.close()
        worker.pause()
        worker.stop(5.0)
        slot.wait(worker, Exited)
        assert_updates(device, repository, slot)
