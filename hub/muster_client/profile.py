"""Where the hub is and who asks: flags, then environment, then a profile file."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from muster_client.failures import WrongUsage

VARIABLES = {"hub": "MUSTER_HUB", "token": "MUSTER_TOKEN", "ca": "MUSTER_CA"}
CA_PEM = "ca_pem"


@dataclass(frozen=True)
class Profile:
    """``hub`` is a URL, ``ca`` the PEM file to check its certificate by (empty: the system's)."""

    hub: str
    token: str
    ca: str
    ca_pem: str = ""
    """The same as text, which a copied profile carries along; a file comes first."""


def default_path() -> Path:
    """Where a profile is looked for when none is named."""
    return platformdirs.user_config_path("muster") / "config.toml"


def resolve(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> Profile:
    """Settle every setting by itself; raises WrongUsage when no hub is named anywhere."""
    stored = _read(file) if file is not None else _read_if_there(default_path())
    settled = {}
    for name, variable in VARIABLES.items():
        # A profile named on the command line says more than a variable left in the shell.
        later = [stored.get(name), environment.get(variable)]
        candidates = [flags.get(name), *(later if file is not None else reversed(later))]
        settled[name] = next((value for value in candidates if value), "")
    if not settled["hub"]:
        raise WrongUsage(
            "no hub is named: give --hub URL, set MUSTER_HUB, run `muster login URL`, or use "
            "--profile FILE (`muster-hub init` writes operator.toml)"
        )
    inline = "" if settled["ca"] else stored.get(CA_PEM, "")
    profile = Profile(**settled, ca_pem=inline)
    check(profile)
    return profile


def check(profile: Profile) -> None:
    """Raise WrongUsage for a hub that is no http(s) URL."""
    if not profile.hub.startswith(("https://", "http://")):
        raise WrongUsage(f"hub {profile.hub!r} is not an http(s) URL")


def write(path: Path, profile: Profile) -> None:
    """Write a profile that only its owner reads, its CA's file copied into it.

    Raises WrongUsage when it can't be written, or the CA's file not be read.
    """
    settings = {"hub": profile.hub, "token": profile.token}
    pem = profile.ca_pem
    if profile.ca:
        try:
            pem = Path(profile.ca).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUsage(f"CA file {profile.ca}: {error}") from None
    if pem:
        settings[CA_PEM] = pem
    # A string of JSON is one of TOML as well.
    lines = [
        f"{name} = {msgspec.json.encode(value).decode()}\n" for name, value in settings.items()
    ]
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("".join(lines))
        fresh.replace(path)
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None


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
    for name in (*VARIABLES, CA_PEM):
        value = stored.get(name, "")
        if not isinstance(value, str):
            raise WrongUsage(f"profile {path}: {name} must be text")
        settings[name] = value
    if settings["ca"]:
        beside = path.parent / settings["ca"]
        # At the hub the file counts, which follows a change of the CA; a copy may lack it.
        settings["ca"] = "" if settings[CA_PEM] and not beside.exists() else str(beside)
    return settings
