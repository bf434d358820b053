"""``muster-hub broker-files``: what a broker of the site's own needs from the hub's authority."""

import time
from pathlib import Path
from typing import Annotated

import typer

from muster_hub.admin import keys as cli_keys
from muster_hub.admin.keys import DEFAULT_DATA, Data
from muster_hub.errors import Invalid
from muster_hub.mqtt.access import BrokerFiles
from muster_hub.mqtt.broker_config import acl_text
from muster_hub.storage.files import write_durably

ACL_FILE = "muster.acl"


def add_to(app: typer.Typer) -> None:
    """Make this command the app's own."""
    app.command("broker-files")(broker_files)


def broker_files(
    to: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the broker reads them; made if missing.")
    ],
    *,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="A host name or address by which it is reached; repeat for more. "
            "[default: the one devices are told]",
        ),
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Write what a broker of your own needs: certificate, key, authority, revocations, rules.

    Done again it renews what ends soon, and the list of revoked devices.
    """
    hub = cli_keys.open_hub(data)
    if not hub.config.broker.url:
        raise Invalid(
            "broker-files: the hub runs its own Mosquitto, which has them. For a broker of yours "
            "set [broker] url in hub.toml"
        )
    names = tuple(name or [hub.config.broker_public[0]])
    files = BrokerFiles(to, hub.pki, hub.store)
    before = files.certificate.read_bytes() if files.certificate.exists() else b""
    files.prepare(names, time.time())
    write_durably(to / ACL_FILE, acl_text().encode())
    made = "kept" if files.certificate.read_bytes() == before else "new"
    print(f"{files.certificate} for {', '.join(names)}: {made}. Beside it: {files.key.name}, "
          f"{files.ca.name}, {files.crl.name}, {ACL_FILE}")  # fmt: skip
