"""A registry holds an entry for each of its words, and refuses every other word."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, assert_never, cast

import pytest

from muster_protocol.registry import Registry, UnknownWordError

Shape = Literal["circle", "square"]
ROOT = Path(__file__).resolve().parents[2]


def corners_of(shape: Shape) -> int:
    match shape:
        case "circle":
            return 0
        case "square":
            return 4
        case _:
            assert_never(shape)


CORNERS = Registry[Shape, int]("shape", Shape, corners_of)


def test_each_word_has_its_entry_in_the_words_order():
    assert dict(CORNERS) == {"circle": 0, "square": 4}
    assert list(CORNERS) == ["circle", "square"]
    assert CORNERS.find("square") == 4


def test_an_unknown_word_is_refused_with_those_that_are_known():
    with pytest.raises(UnknownWordError, match="no shape 'star' here: there are circle, square"):
        CORNERS.find("star")


def test_a_long_unknown_word_is_cut_in_the_message():
    with pytest.raises(UnknownWordError) as refused:
        CORNERS.find("x" * 10_000)
    assert len(str(refused.value)) < 200


def test_a_word_without_an_entry_is_refused_as_the_registry_is_made():
    more = Literal["circle", "square", "star"]
    with pytest.raises(AssertionError, match="star"):
        Registry[Any, int]("shape", more, corners_of)


def test_what_lists_no_words_is_no_set_of_words():
    with pytest.raises(TypeError, match="Literal"):
        Registry[Shape, int]("shape", str, cast("Any", corners_of))


def test_mypy_refuses_a_word_without_an_entry(tmp_path):
    source = Path(__file__).read_text(encoding="utf-8").split("\nCORNERS")[0]
    planted = source.replace('Literal["circle", "square"]', 'Literal["circle", "square", "star"]')
    assert planted != source
    checked = {}
    for name, text in (("whole", source), ("planted", planted)):
        module = tmp_path / f"{name}.py"
        module.write_text(text.replace("import pytest\n", ""), encoding="utf-8")
        checked[name] = subprocess.run(
            [sys.executable, "-m", "mypy", "--config-file", "", "--strict", str(module)],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110,
            env={"MYPYPATH": str(ROOT / "protocol"), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    assert checked["whole"].returncode == 0, checked["whole"].stdout
    assert "incompatible type \"Literal['star']\"" in checked["planted"].stdout
