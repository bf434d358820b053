"""The durable write: complete under its name or not there at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.storage.files import (
    DurableWriter,
    link_durably,
    make_directory,
    rename_durably,
    write_durably,
)


@given(first=st.binary(max_size=2000), second=st.binary(max_size=2000))
def test_a_file_holds_what_was_written_last(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("files") / "name"
    write_durably(path, first)
    write_durably(path, second)
    assert path.read_bytes() == second
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "name"
    write_durably(path, b"old")

    def interrupted():
        with DurableWriter(path) as writer:
            writer.write(b"half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_not_there_before_its_commit(tmp_path):
    with DurableWriter(tmp_path / "name") as writer:
        writer.write(b"data")
        assert not (tmp_path / "name").exists()
        writer.commit()
        assert (tmp_path / "name").read_bytes() == b"data"


def test_a_part_left_by_a_power_cut_is_written_over(tmp_path):
    (tmp_path / "name.part").write_bytes(b"left, and longer than what comes")
    write_durably(tmp_path / "name", b"new")
    assert (tmp_path / "name").read_bytes() == b"new"


def test_a_write_does_not_follow_a_planted_link(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "name.part").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        write_durably(tmp_path / "name", b"data")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_link_moves_in_one_step_and_over_what_a_crash_left(tmp_path):
    (tmp_path / "current.part").symlink_to("left")
    link_durably(tmp_path / "current", "one")
    link_durably(tmp_path / "current", "two")
    assert str((tmp_path / "current").readlink()) == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_directories_are_made_with_their_parents_and_renamed_whole(tmp_path):
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    write_durably(tmp_path / "a" / "b" / "file", b"data")
    rename_durably(tmp_path / "a" / "b", tmp_path / "c")
    assert (tmp_path / "c" / "file").read_bytes() == b"data"
