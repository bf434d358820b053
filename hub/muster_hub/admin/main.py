"""``muster-hub``: make a hub, run it, and handle its keys."""

import sys
import time
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from muster_hub.access.governance import make_token
from muster_hub.admin import (
    agent_releases,
    asking,
    broker_files,
    console,
    models,
    moving,
    placebo,
)
from muster_hub.admin import audit as cli_audit
from muster_hub.admin import data as cli_data
from muster_hub.admin import keys as cli_keys
from muster_hub.admin.asking import RoleName
from muster_hub.admin.keys import DEFAULT_DATA, Data
from muster_hub.api.hub import Hub
from muster_hub.app import initialise
from muster_hub.audit import log
from muster_hub.errors import ConfigError
from muster_hub.settings import config, parts
from muster_hub.settings.config import BrokerSettings, Http
from muster_hub.signing import keys, roles
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError

app = typer.Typer(
    help="The Muster hub: publishes signed models to devices and collects their reports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

KeyFiles = Annotated[
    list[Path] | None,
    typer.Option(help="A .pub file made by `muster-hub keygen`; repeat for more keys."),
]
Threshold = Annotated[
    int | None, typer.Option(min=1, help="How many must sign; more than half when not given.")
]
EXPIRES_DAYS_MAX = 3650
cli_keys.add_to(app)
models.add_to(app)
agent_releases.add_to(app)
cli_data.add_to(app)
cli_audit.add_to(app)
placebo.add_to(app)
console.add_to(app)
moving.add_to(app)
broker_files.add_to(app)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - an option's callback
    if wanted:
        print(f"muster-hub {version_of('muster-edge')}")
        raise typer.Exit


@app.callback()
def settings(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """The Muster hub: publishes signed models to devices and collects their reports."""
    del version  # it has ended the command where it was given


@app.command()
def init(
    *,
    data: Data = DEFAULT_DATA,
    all_keys_here: Annotated[
        bool,
        typer.Option(
            "--all-keys-here",
            help="Make root, targets and release keys on this machine: for demos and tests only.",
        ),
    ] = False,
    root_public: KeyFiles = None,
    root_threshold: Threshold = None,
    targets_public: KeyFiles = None,
    targets_threshold: Threshold = None,
    release_public: KeyFiles = None,
    release_threshold: Threshold = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A host name or address of this hub; repeat for more."),
    ] = None,
    host: Annotated[str, typer.Option(help="Listen on this address.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=1, max=65535)] = Http().port,
    broker_port: Annotated[int, typer.Option(min=1, max=65535)] = BrokerSettings().port,
    broker_url: Annotated[
        str, typer.Option(help="mqtts://host:port of a broker you run yourself.")
    ] = "",
    database: Annotated[str, typer.Option(help="postgresql://… instead of a file.")] = "",
    ca_certificate: Annotated[
        Path | None,
        typer.Option(
            help="Use this certificate authority instead of a new one: its chain up to the root."
        ),
    ] = None,
    ca_key: Annotated[Path | None, typer.Option(help="The authority's private key, PEM.")] = None,
) -> None:
    """Make a new hub: keys, certificate authority, catalogue, database, the first API token."""
    public = _offline_keys(
        {
            "root": (root_public or [], root_threshold),
            "targets": (targets_public or [], targets_threshold),
            "release": (release_public or [], release_threshold),
        },
        all_here=all_keys_here,
    )
    settings = initialise.initialise(
        data,
        initialise.NewHub(
            names=tuple(name) if name else ("localhost", "127.0.0.1"),
            http=Http(host=host, port=http_port),
            broker=BrokerSettings(host=host, port=broker_port, url=broker_url),
            database=database,
            offline_public=public,
            authority=_authority(ca_certificate, ca_key),
        ),
    )
    print(f"A hub was made in {settings.data}.")
    if public is not None:
        files = [*(root_public or []), *(targets_public or []), *(release_public or [])]
        keys.Keyring(settings.keys).put_names(cli_keys.names_of(files))
    if public is None:
        print(
            "All keys are on this machine (--all-keys-here): whoever takes it over can sign "
            "models. Good for a demo, not for a plant."
        )
        root = (settings.tuf / "1.root.json").read_bytes()
        print(f"Factory root for devices: {settings.tuf / '1.root.json'}")
        print(f"  its SHA-256: {sha256_hex(root)}")
    else:
        print("Nothing can be published before its first root and targets are signed:")
        print(f"  muster-hub signing-request --data {data} OUT")
        print("  muster-hub sign --key KEY OUT/…   (where the keys are)")
        print(f"  muster-hub add-signatures --data {data} OUT/…")
    print(f"Run it:    muster-hub serve --data {data}")
    print(f"Operate:   muster --profile {data / initialise.OPERATOR_FILE} device list")


@app.command()
def serve(
    *,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log lines of JSON instead of text.")
    ] = False,
    role: Annotated[
        str,
        typer.Option(
            help="What this process does: all, or some of api, ingest, engine and publisher with "
            "commas. Several processes need PostgreSQL and a broker of yours."
        ),
    ] = parts.ALL,
    http_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Listen here instead of at [http] port; a process without the API answers only "
            "/api/v1/health and /metrics, and only if this is given.",
        ),
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Run the hub: API, broker, publisher, ingest and engine in one process, or some of them."""
    from muster_hub.app.service import serve as run  # noqa: PLC0415 - the other commands start faster

    chosen = parts.parse(role)
    raise typer.Exit(run(config.load(data), parts=chosen, port=http_port, log_json=log_json))


@app.command()
def broker(
    *,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log lines of JSON instead of text.")
    ] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Run the hub's Mosquitto in a process of its own, which a restart of the hub leaves alone."""
    from muster_hub.app.broker_process import run  # noqa: PLC0415 - the other commands start faster

    raise typer.Exit(run(config.load(data), log_json=log_json))


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Who it is for; shown in the audit log.")],
    *,
    role: RoleName = "viewer",
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=EXPIRES_DAYS_MAX, help="By default it never expires.")
    ] = None,
    owner: Annotated[
        str, typer.Option(help="The person who holds it, as they log in; NAME when not given.")
    ] = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Make an API token and print it. It is not stored."""
    chosen = asking.role(role)
    hub = Hub.open(config.load(data), time.time)
    now = time.time()
    expires = None if expires_days is None else now + expires_days * roles.DAY_SECONDS
    with hub.store.write() as session:
        text = make_token(session, name, chosen, now, expires, owner=owner)
        log.append(
            session,
            actor="hub",
            action="api-token.make",
            subject=name,
            now=now,
            role=chosen,
            owner=owner or name,
        )
    print(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: a known error ends in one line and exit code 1."""
    try:
        app(arguments)
    except (MusterError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"muster-hub: {message}", file=sys.stderr)
        sys.exit(1)


def _authority(certificate: Path | None, key: Path | None) -> tuple[bytes, bytes] | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise typer.BadParameter("--ca-certificate and --ca-key go together", param_hint="CA")
    try:
        return certificate.read_bytes(), key.read_bytes()
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None


def _offline_keys(
    given: dict[keys.Role, tuple[list[Path], int | None]], *, all_here: bool
) -> dict[keys.Role, keys.KeyGroup] | None:
    found = {
        role: keys.group(map(keys.load_public, files), threshold)
        for role, (files, threshold) in given.items()
        if files
    }
    if all_here and not found:
        return None
    if all_here or len(found) != len(given):
        raise typer.BadParameter(
            "give --root-public, --targets-public and --release-public, made elsewhere with "
            "`muster-hub keygen`; or --all-keys-here for a demo",
            param_hint="keys",
        )
    return found
