"""`muster` apart from any hub: where it connects, what it says when something is wrong."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.client import ServerEvent, parse_events
from muster_client.commands.rollouts import parse_canary
from muster_client.failures import Exit, OperatorError, from_problem
from muster_client.profile import Profile, resolve
from muster_client.terminal import bars
from muster_protocol.signals import baseline

COMMAND = [sys.executable, "-c", "from muster_client.app import main; main()"]


def muster(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**clean, "XDG_CONFIG_HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_flags_come_before_the_environment_and_that_before_the_users_profile() -> None:
    environment = {"MUSTER_HUB": "https://env", "MUSTER_TOKEN": "env"}
    got = resolve({"hub": "https://flag", "token": None}, environment, None)
    assert got == Profile(hub="https://flag", token="env", ca="")


def test_a_profile_named_on_the_command_line_comes_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "operator.toml"
    file.write_text('hub = "https://file"\ntoken = "file"\nca = "ca.pem"\n')
    got = resolve({}, {"MUSTER_HUB": "https://env"}, file)
    assert got == Profile(hub="https://file", token="file", ca=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize("text", ["hub = 3", "not toml at all", 'hub = "ftp://x"'])
def test_a_profile_that_cannot_be_right_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "operator.toml"
    file.write_text(text)
    with pytest.raises(OperatorError) as caught:
        resolve({}, {}, file)
    assert caught.value.code == Exit.USAGE


def test_without_a_hub_the_operator_is_told_how_to_name_one() -> None:
    ended = muster("device", "list")
    assert ended.returncode == Exit.USAGE
    assert ended.stderr.count("\n") == 1
    assert "MUSTER_HUB" in ended.stderr


def test_a_hub_that_does_not_answer_is_one_line_and_its_own_exit_code() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ended = muster("--hub", url, "device", "list")
    assert ended.returncode == Exit.UNREACHABLE
    assert ended.stderr.startswith(f"muster: no hub answers at {url}")
    assert ended.stderr.count("\n") == 1


def test_a_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    ended = muster("--hub", "https://x", "--ca", str(tmp_path / "ca.pem"), "device", "list")
    assert ended.returncode == Exit.USAGE
    assert "ca.pem" in ended.stderr


def test_a_problem_becomes_one_line_with_what_where_and_what_to_do() -> None:
    problem = {"title": "Not allowed", "detail": "the token\nis expired"}
    error = from_problem(401, problem, "GET /api/v1/devices")
    assert str(error) == (
        "Not allowed: the token is expired (GET /api/v1/devices, HTTP 401). "
        "Give a valid token with --token, MUSTER_TOKEN or --profile FILE"
    )


def test_a_problem_names_the_fields_at_fault() -> None:
    fault = {"loc": ["body", "canary"], "msg": "must not be negative"}
    error = from_problem(422, {"title": "Invalid", "errors": [fault]}, "POST /api/v1/rollouts")
    assert "body.canary: must not be negative" in str(error)


@given(st.dictionaries(st.sampled_from(["title", "detail", "errors"]), st.text() | st.none()))
def test_any_problem_is_one_line(problem: dict[str, str | None]) -> None:
    assert "\n" not in str(from_problem(500, problem, "GET /"))


@pytest.mark.parametrize(
    ("text", "value"), [("0.25", 0.25), ("25%", 0.25), ("3", 3), ("0", 0.0), ("0%", 0.0)]
)
def test_a_canary_is_a_share_or_a_count(text: str, value: float) -> None:
    assert parse_canary(text) == value
    assert isinstance(parse_canary(text), int) == (value >= 1)


@pytest.mark.parametrize("text", ["", "some", "-1", "1.5", "120%", "nan", "inf"])
def test_a_canary_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(OperatorError):
        parse_canary(text)


def test_server_events_are_read_as_the_standard_says() -> None:
    lines = [
        ": ping",
        "",
        "id: 7",
        "event: refused",
        "data: {",
        "data: }",
        "",
        "data:x",
        "",
        "data",
    ]
    assert list(parse_events(iter(lines))) == [
        ServerEvent("7", "refused", "{\n}"),
        ServerEvent("7", "message", "x"),
    ]


counts = st.lists(st.integers(0, 10**6), min_size=1, max_size=64)


@given(counts)
def test_bars_show_every_bin_that_holds_something(values: list[int]) -> None:
    drawn = bars.bars(bars.shares(values), max(bars.shares(values)))
    assert [char == " " for char in drawn] == [value == 0 for value in values]


def test_bars_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bins expected, 2 counted"):
        bars.compare([1, 2, 3], [1, 2], alarming=False)


def test_a_meter_stays_within_its_width() -> None:
    assert bars.meter(0, 0, 4) == "░░░░"
    assert bars.meter(9, 3, 4) == "████"


def test_a_baseline_is_fitted_from_a_csv(tmp_path: Path) -> None:
    data, out = tmp_path / "train.csv", tmp_path / "baseline.bin"
    rows = "\n".join(f"{i / 10},{i % 7 or ''}" for i in range(200))
    data.write_text(f"flow,pressure\n{rows}\n")
    ended = CliRunner().invoke(app, ["baseline", "fit", str(data), "-o", str(out), "--json"])
    assert ended.exit_code == 0, ended.output
    fitted = json.loads(ended.stdout)
    assert [feature["feature"] for feature in fitted["features"]] == ["flow", "pressure"]
    assert fitted["features"][1]["nulls"] == 29
    assert baseline.decode(out.read_bytes()).digest == fitted["sha256"]


def test_a_baseline_of_images_and_scores_is_fitted_from_an_npz(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    data, out = tmp_path / "train.npz", tmp_path / "baseline.bin"
    scores = random.dirichlet(np.ones(3), 100).astype(np.float32)
    np.savez(data, frame=random.random((100, 8, 8), np.float32), scores=scores)
    options = ["--image", "frame=8x8", "--classifier", "scores", "-o", str(out)]
    ended = CliRunner().invoke(app, ["baseline", "fit", str(data), *options])
    assert ended.exit_code == 0, ended.output
    names = [feature.name for feature in baseline.decode(out.read_bytes()).features]
    assert names == [
        "frame.brightness", "frame.contrast", "frame.sharpness", "scores.class",
        "scores.confidence",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3\n", "line 3 has 1 values, the header names 2"),
        ("a\nx\n", "line 2: 'x' is not a number"),
        ("a\n", "no row of data"),
    ],
)
def test_a_bad_csv_is_named_by_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "train.csv").write_text(text)
    ended = muster("baseline", "fit", str(tmp_path / "train.csv"))
    assert ended.returncode == Exit.USAGE
    assert says in ended.stderr
    assert not (tmp_path / "baseline.bin").exists()


def test_a_bundle_folder_without_a_manifest_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    ended = muster("--hub", "http://127.0.0.1:9", "model", "push", str(tmp_path))
    assert ended.returncode == Exit.USAGE
    assert "manifest.json" in ended.stderr


@pytest.mark.parametrize(
    "command",
    ["", "device", "model", "baseline", "rollout", "drift", "alert", "tail"],
)
def test_every_command_explains_itself(command: str) -> None:
    ended = CliRunner().invoke(app, [*command.split(), "--help"])
    assert ended.exit_code == 0
    assert "Usage" in ended.output
