"""Where the hub is and who asks: flags, then environment, then a profile file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import platformdirs

from muster_client.failures import WrongUsage

VARIABLES = {"hub": "MUSTER_HUB", "token": "MUSTER_TOKEN", "ca": "MUSTER_CA"}


@dataclass(frozen=True)
class Profile:
    """``hub`` is a URL, ``ca`` the PEM file to check its certificate by (empty: the system's)."""

    hub: str
    token: str
    ca: str


def default_path() -> Path:
    """Where a profile is looked for when none is named."""
    return platformdirs.user_config_path("muster") / "config.toml"


def resolve(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> Profile:
    """Settle every setting by itself; raises WrongUsage when no hub is named anywhere."""
    stored = _read(file) if file is not None else _read_if_there(default_path())
    settled = {}
    for field in fields(Profile):
        name = field.name
        # A profile named on the command line says more than a variable left in the shell.
        later = [stored.get(name), environment.get(VARIABLES[name])]
        candidates = [flags.get(name), *(later if file is not None else reversed(later))]
        settled[name] = next((value for value in candidates if value), "")
    if not settled["hub"]:
        raise WrongUsage(
            "no hub is named: give --hub URL, set MUSTER_HUB, or use --profile FILE "
            "(`muster-hub init` writes operator.toml)"
        )
    profile = Profile(**settled)
    check(profile)
    return profile


def check(profile: Profile) -> None:
    """Raise WrongUsage for a hub that is no http(s) URL."""
    if not profile.hub.startswith(("https://", "http://")):
        raise WrongUsage(f"hub {profile.hub!r} is not an http(s) URL")


def _read_if_there(path: Path) -> dict[str, str]:
    return _read(path) if path.exists() else {}


def _read(path: Path) -> dict[str, str]:
    try:
        stored = tomllib.loads(path.read_text())
    except OSError as error:
        raise WrongUsage(f"profile {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"profile {path}: not TOML: {error}") from None
    settings = {}
    for name in VARIABLES:
        value = stored.get(name, "")
        if not isinstance(value, str):
            raise WrongUsage(f"profile {path}: {name} must be text")
        settings[name] = value
    if settings["ca"]:
        settings["ca"] = str(path.parent / settings["ca"])
    return settings
