"""The durable write: complete under its name or not there at all."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.storage.files import (
    DurableBatch,
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


# What the kernel is asked for, in which order: a name may stand only for what is synced, and is
# itself durable only when its directory is.

SYNCING = "fsync,fdatasync,syncfs,rename,renameat,renameat2"
CALL = re.compile(r"(fsync|fdatasync|syncfs|rename)\w*\((.*)\) += 0")


def asked(tmp_path, line):
    """The calls that sync and rename when a line of Python runs, by the names they are about."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom muster_agent.storage import files\n"
        f"at = Path(sys.argv[1])\n{line}"
    )
    log, place = tmp_path / "log", tmp_path / "place"
    place.mkdir()
    done = subprocess.run(
        ["strace", "-f", "-qq", "-y", "-o", log, "-e", f"trace={SYNCING}",
         sys.executable, "-B", "-c", script, place],
        capture_output=True, text=True, check=False, timeout=60,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [CALL.search(text) for text in log.read_text().splitlines()]
    calls = [(call[1], re.findall(r'[<"]([^<">]+)[>"]', call[2])) for call in found if call]
    return [
        (name, *(Path(path).relative_to(tmp_path).as_posix() for path in paths))
        for name, paths in calls
    ]


def test_a_file_is_synced_before_it_takes_its_name_and_the_name_after(tmp_path):
    assert asked(tmp_path, "files.write_durably(at / 'name', b'data')") == [
        ("fsync", "place/name.part"),
        ("rename", "place/name.part", "place/name"),
        ("fsync", "place"),
    ]


def test_a_link_is_synced_once_it_points_elsewhere(tmp_path):
    assert asked(tmp_path, "files.link_durably(at / 'current', 'two')") == [
        ("rename", "place/current.part", "place/current"),
        ("fsync", "place"),
    ]


def test_a_directorys_entries_are_synced_before_it_takes_its_name(tmp_path):
    made = "files.fill_durably(at / 'part', {'file': b'data'}); "
    assert asked(tmp_path, made + "files.rename_durably(at / 'part', at / 'whole')") == [
        ("fsync", "place/part/file"),
        ("fsync", "place/part"),
        ("rename", "place/part", "place/whole"),
        ("fsync", "place"),
    ]


def test_what_goes_is_gone_for_good_before_its_content_is(tmp_path):
    made = "(at / 'old').mkdir(); (at / 'old' / 'file').touch(); "
    assert asked(tmp_path, made + "files.remove_durably(at / 'old')") == [
        ("rename", "place/old", "place/old.old.part"),
        ("fsync", "place"),
    ]


def test_many_files_are_synced_together_before_they_take_their_names_and_after(tmp_path):
    added = "batch.add(at / 'a', b'data'); batch.add(at / 'b', b'data'); "
    made = f"batch = files.DurableBatch(at); {added}batch.commit(); batch.commit()"
    assert asked(tmp_path, made) == [
        ("syncfs", "place"),
        ("rename", "place/a.part", "place/a"),
        ("rename", "place/b.part", "place/b"),
        ("syncfs", "place"),
    ]


def test_a_file_that_can_t_be_written_takes_none_of_its_batch_along(tmp_path):
    batch = DurableBatch(tmp_path)
    batch.add(tmp_path / "one" / "file", b"data")
    (tmp_path / "two").write_bytes(b"no directory")
    with pytest.raises(OSError, match="two"):
        batch.add(tmp_path / "two" / "file", b"data")
    assert batch.size_bytes == 4
    batch.commit()
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["file"]


def test_a_name_that_can_t_be_taken_leaves_nothing_unfinished(tmp_path):
    batch = DurableBatch(tmp_path)
    batch.add(tmp_path / "name", b"data")
    (tmp_path / "name").mkdir()
    with pytest.raises(IsADirectoryError):
        batch.commit()
    assert not list(tmp_path.glob("*.part"))
