"""Where the hub is and who asks: flags, then environment, then a profile file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import platformdirs

from muster_client.failures import Exit, OperatorError

VARIABLES = {"hub": "MUSTER_HUB", "token": "MUSTER_TOKEN", "ca": "MUSTER_CA"}


@dataclass(frozen=True)
class Profile:
    """``hub`` is a URL, ``ca`` the PEM file to check its certificate by (empty: the system's)."""

    hub: str
    token: str
    ca: str


def default_path() -> Path:
    return platformdirs.user_config_path("muster") / "config.toml"


def resolve(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> Profile:
    """Settle every setting by itself; raises OperatorError when no hub is named anywhere."""
    stored = _read(file) if file is not None else _read_if_there(default_path())
    settled = {}
    for field in fields(Profile):
        name = field.name
        # A profile named on the command line says more than a variable left in the shell.
        later = [stored.get(name), environment.get(VARIABLES[name])]
        candidates = [flags.get(name), *(later if file is not None else reversed(later))]
        settled[name] = next((value for value in candidates if value), "")
    if not settled["hub"]:
        raise OperatorError(
            "no hub is named: give --hub URL, set MUSTER_HUB, or use --profile FILE "
            "(`muster-hub init` writes operator.toml)",
            Exit.USAGE,
        )
    if not settled["hub"].startswith(("https://", "http://")):
        raise OperatorError(f"hub {settled['hub']!r} is not an http(s) URL", Exit.USAGE)
    return Profile(**settled)


def _read_if_there(path: Path) -> dict[str, str]:
    return _read(path) if path.exists() else {}


def _read(path: Path) -> dict[str, str]:
    try:
        stored = tomllib.loads(path.read_text())
    except OSError as error:
        raise OperatorError(f"profile {path}: {error.strerror}", Exit.USAGE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"profile {path}: not TOML: {error}", Exit.USAGE) from None
    settings = {}
    for name in VARIABLES:
        value = stored.get(name, "")
        if not isinstance(value, str):
            raise OperatorError(f"profile {path}: {name} must be text", Exit.USAGE)
        settings[name] = value
    if settings["ca"]:
        settings["ca"] = str(path.parent / settings["ca"])
    return settings
