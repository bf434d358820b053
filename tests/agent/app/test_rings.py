"""Where the workers' rings lie: in memory where there is room, else beside the data."""

from muster_agent.app.rings import ROOM_RINGS, rings_directory
from muster_agent.base import config

SMALL_RING_BYTES = 65_536


def configured(tmp_path, *, run_dir="run", ring_bytes=SMALL_RING_BYTES):
    (tmp_path / "agent.toml").write_text(
        f'device = "press-7"\nrun_dir = "{run_dir}"\n[broker]\nhost = "localhost"\n'
        f"[limits]\nring_bytes = {ring_bytes}\n"
    )
    return config.load(tmp_path)


def test_rings_lie_where_the_sockets_are_and_those_of_an_older_agent_go(tmp_path):
    (tmp_path / "rings").mkdir()
    (tmp_path / "rings" / "main-1-1.ring").write_bytes(b"old")
    assert rings_directory(configured(tmp_path)) == tmp_path / "run" / "rings"
    assert not (tmp_path / "rings").exists()


def test_where_the_sockets_are_beside_the_data_no_ring_is_deleted(tmp_path):
    (tmp_path / "rings").mkdir()
    (tmp_path / "rings" / "main-1-1.ring").write_bytes(b"new")
    assert rings_directory(configured(tmp_path, run_dir=".")).resolve() == tmp_path / "rings"
    assert (tmp_path / "rings" / "main-1-1.ring").exists()


def test_where_memory_has_no_room_for_them_they_lie_on_the_disk(tmp_path):
    device = configured(tmp_path)
    room = ROOM_RINGS * SMALL_RING_BYTES
    assert rings_directory(device, lambda _: room) == tmp_path / "run" / "rings"
    assert rings_directory(device, lambda _: room - 1) == tmp_path / "rings"


def test_rings_that_are_not_counted_yet_are_found_where_they_are(tmp_path):
    device = configured(tmp_path)
    (tmp_path / "run" / "rings").mkdir(parents=True)
    (tmp_path / "run" / "rings" / "main-1-1.ring").write_bytes(b"recorded")
    assert rings_directory(device, lambda _: 0) == tmp_path / "run" / "rings"
