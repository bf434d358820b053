"""A slot's sockets: one owner, no stale files, clear refusals."""

import socket
from pathlib import Path

import pytest

from muster_agent.worker import handover
from muster_agent.worker.slot_socket import HANDOVER_BYTES, SlotSocketError, open_listeners


def test_a_stale_socket_file_is_replaced_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "slot.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    sockets = open_listeners(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert path.stat().st_mode & 0o777 == 0o660
    sockets.close()
    assert not path.exists()


def test_a_path_somebody_serves_is_not_taken(tmp_path: Path) -> None:
    first = open_listeners(tmp_path / "slot.sock")
    with pytest.raises(SlotSocketError, match="is an agent already running"):
        open_listeners(tmp_path / "slot.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "slot.sock"))
    first.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "slot.sock").write_text("precious")
    with pytest.raises(SlotSocketError, match="is not a socket"):
        open_listeners(tmp_path / "slot.sock")
    assert (tmp_path / "slot.sock").read_text() == "precious"


def test_a_path_the_kernel_cannot_hold_says_what_to_change(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 107)
    with pytest.raises(SlotSocketError, match="the limit is 107: set a shorter run_dir"):
        open_listeners(path)


def test_a_port_in_use_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SlotSocketError, match=f"127.0.0.1:{port}"):
            open_listeners(tmp_path / "slot.sock", port)
    sockets = open_listeners(tmp_path / "slot.sock", 0)
    assert sockets.tcp_port
    sockets.close()


@pytest.mark.parametrize("pending", [b"", b"GET / HT", bytes(HANDOVER_BYTES)])
def test_a_connection_travels_with_its_unanswered_bytes(tmp_path: Path, pending: bytes) -> None:
    sockets = open_listeners(tmp_path / "slot.sock")
    here, there = socket.socketpair()
    assert handover.send(sockets.handover_out, here, pending) is handover.Outcome.SENT
    here.close()
    there.sendall(b"later")
    taken = handover.receive(sockets.handover_in)
    assert taken is not None
    assert taken.pending == pending
    assert taken.client.recv(10) == b"later"
    assert handover.receive(sockets.handover_in) is None
    taken.client.close()
    there.close()
    sockets.close()


def test_a_full_pair_says_so_and_loses_nothing(tmp_path: Path) -> None:
    sockets = open_listeners(tmp_path / "slot.sock")
    here, there = socket.socketpair()
    sent = 0
    while handover.send(sockets.handover_out, here, b"x" * 1000) is handover.Outcome.SENT:
        sent += 1
    assert sent >= 64
    opened = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(sent):
        taken = handover.receive(sockets.handover_in)
        assert taken is not None
        taken.client.close()
    assert handover.receive(sockets.handover_in) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    here.close()
    there.close()
    sockets.close()


def test_what_is_too_long_or_has_no_receiver_cannot_be_handed_over(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    out, into = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there, out:
        assert handover.send(None, here, b"") is handover.Outcome.IMPOSSIBLE
        long = bytes(HANDOVER_BYTES + 1)
        assert handover.send(out, here, long) is handover.Outcome.IMPOSSIBLE
        into.close()
        assert handover.send(out, here, b"") is handover.Outcome.IMPOSSIBLE
