"""Tables as people have them: commas and semicolons, words, dates, gaps."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_client.failures import WrongUsage
from muster_client.training.table import of_frame, read_table, seconds, seconds_of


def table(folder, text, name="train.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_table(path)


def test_the_semicolon_of_spreadsheets_brings_the_comma_as_decimal_point(tmp_path):
    read = table(tmp_path, "flow;state;at\n1.234,5;ok;30.11.2026 08:00\n-2,25;dry;30.11.2026\n")
    assert read.columns["flow"].tolist() == [1234.5, -2.25]
    assert read.columns["state"].tolist() == ["ok", "dry"]
    assert seconds_of(read.columns["at"])[0] == datetime(2026, 11, 30, 8, tzinfo=UTC).timestamp()


def test_a_byte_order_mark_and_empty_lines_are_no_data(tmp_path):
    read = table(tmp_path, "\ufeffa,b\n1,2\n\n3,4\n")
    assert {name: column.tolist() for name, column in read.columns.items()} == {
        "a": [1, 3], "b": [2, 4],
    }  # fmt: skip


def test_what_is_missing_is_a_null_whatever_it_is_called(tmp_path):
    read = table(tmp_path, "a,b\n1,x\nNA,\nnull,None\n,y\n")
    assert np.isnan(read.columns["a"]).tolist() == [False, True, True, True]
    assert read.columns["b"].tolist() == ["x", "", "", "y"]


def test_yes_and_no_are_boolean(tmp_path):
    read = table(tmp_path, "on,off\ntrue,no\nFalse,YES\n")
    assert (read.kind("on"), read.kind("off")) == ("boolean", "boolean")
    assert read.columns["off"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("a,a\n1,2\n", "names 'a' twice"),
        ("a,\n1,2\n", "column 2 has no name"),
        ("1,2\n3,4\n", "the first line holds numbers"),
        ("a,b\n1\n", "line 2 has 1 values, the header names 2"),
        ("a\n1\n2\nthree\n", "line 4: 'three' is not a number, and 'a' holds numbers"),
        ("a\n", "no row of data"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(tmp_path, text, says):
    with pytest.raises(WrongUsage, match=says):
        table(tmp_path, text)


def test_a_table_of_another_kind_is_refused_by_its_name(tmp_path):
    with pytest.raises(WrongUsage, match=r"train\.xlsx: give a \.csv"):
        table(tmp_path, "a\n1\n", "train.xlsx")


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda when: 1970 < when.year < 2100))
def test_every_iso_time_is_read(when):
    assert seconds(when.isoformat()) == when.timestamp()
    assert seconds(when.replace(tzinfo=None).isoformat()) == when.timestamp()


def test_what_is_no_time_says_how_to_write_one():
    with pytest.raises(ValueError, match="'yesterday' is no time: write ISO 8601"):
        seconds("yesterday")


def test_columns_of_arrays_are_a_table_and_must_be_equally_long():
    days = np.array(["2026-01-01", "NaT"], "datetime64[D]")
    read = of_frame({"a": [1, 2], "day": days, "word": ["x", None], "on": [True, False]})
    assert [read.kind(name) for name in read.columns] == ["numeric", "numeric", "text", "boolean"]
    assert read.columns["day"][0] == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert np.isnan(read.columns["day"][1])
    assert read.columns["word"].tolist() == ["x", ""]
    with pytest.raises(WrongUsage, match="differ in length"):
        of_frame({"a": [1], "b": [1, 2]})
