"""Where `muster` connects: flags, environment, profile file."""

from pathlib import Path

import pytest

from muster_client.failures import Exit, OperatorError
from muster_client.profile import Profile, resolve


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
