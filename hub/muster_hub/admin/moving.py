"""``muster-hub``'s commands that send devices elsewhere: the hub moves, its authority changes.

Both change what targets say of where devices may be sent. So people with the targets keys sign it,
and a thief of all that is on the hub can't send a fleet to a hub of his own.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import msgspec
import typer
from sqlmodel import func, select

from muster_hub.admin import asking
from muster_hub.admin import keys as cli_keys
from muster_hub.admin.asking import Yes
from muster_hub.admin.keys import DEFAULT_DATA, Data, DryRun
from muster_hub.api.hub import Hub
from muster_hub.app.initialise import CA_FILE
from muster_hub.errors import ConfigError, Conflict, Invalid
from muster_hub.fleet import heard
from muster_hub.fleet.heard import Unheard
from muster_hub.identity import pki
from muster_hub.identity.pki import Pki
from muster_hub.storage.files import write_durably
from muster_hub.storage.models import EnrolToken
from muster_protocol.wire import limits
from muster_protocol.wire.contact import Approved, BrokerAddress

T = TypeVar("T")
NAMED_MAX = 50
"""Devices that are listed by name; of more the number is said."""
Finish = Annotated[
    bool, typer.Option("--finish", help="Give up what was before; lists whom that cuts off.")
]


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.command("move")(move)
    cli_keys.keys_app.command("rotate-ca")(rotate_ca)


def move(
    *,
    to: Annotated[str, typer.Option(help="Where the API will be: https://host[:port].")] = "",
    broker: Annotated[
        str, typer.Option(help="Where devices will find the broker: host:port.")
    ] = "",
    finish: Finish = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Tell devices where the hub will be; without an address, show which have not heard of it."""
    hub = cli_keys.open_hub(data)
    if not (to or broker or finish):
        _say_where(hub)
        return
    if finish and (to or broker):
        raise Invalid("--finish takes no address: devices then seek the hub only where it is now")
    own = (hub.config.url,), (BrokerAddress(*hub.config.broker_public),)
    next_hub, next_broker = _url(to), _address(broker)

    def change(before: Approved) -> Approved:
        hubs, brokers = (before.hubs or own[0]), (before.brokers or own[1])
        if finish:
            hubs, brokers = own
        return Approved(_first(next_hub, hubs), _first(next_broker, brokers), before.authorities)

    planned = hub.catalogue.set_contact(change, time.time(), dry_run=True)
    if not dry_run:
        what = _finishing(hub) if finish else "devices seek the hub first where it will be"
        asking.confirm(f"{what}, once this is signed: {cli_keys.in_one_line(planned)}", yes=yes)
    plan = hub.catalogue.set_contact(change, time.time(), dry_run=dry_run)
    cli_keys.done(
        hub, "hub.move", to or broker or "finish", plan, dry_run=dry_run, broker=broker, url=to
    )


def rotate_ca(
    *,
    ca_certificate: Annotated[
        Path | None,
        typer.Option(help="The next authority's chain up to the root, instead of one made here."),
    ] = None,
    ca_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    finish: Finish = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Begin to replace the certificate authority of devices; with --finish, end the old one."""
    hub = cli_keys.open_hub(data)
    if finish:
        _finish(hub, dry_run=dry_run, yes=yes)
        return
    if hub.pki.next is not None and _named(hub, hub.pki.next.ca_fingerprint):
        print("An authority waits already beside the one in force.")
        _say_unheard("have not heard of it", _strangers(hub))
        return
    if dry_run:
        print("Nothing was changed. An authority would be made beside the one in force, and named "
              "by targets, which would have to be signed.")  # fmt: skip
        return
    make = _maker(hub, ca_certificate, ca_key)
    with hub.store.read() as session:
        devices = heard.count(session)
    asking.confirm(
        f"a second authority is made, and {devices} devices are told to believe it beside the "
        "first, once targets are signed",
        yes=yes,
    )
    waiting = pki.begin(hub.config.ca, make)
    write_durably(hub.config.data / CA_FILE, hub.pki.ca_pem + waiting.ca_pem)
    both = (waiting.ca_fingerprint, hub.pki.ca_fingerprint)
    _authorities(hub, both, "keys.rotate-ca", dry_run=False)
    print("Restart the hub: its broker takes the second authority in when it starts.")


def _finish(hub: Hub, *, dry_run: bool, yes: bool) -> None:
    waiting = hub.pki.next
    if waiting is None:
        raise Conflict("no authority waits: begin with `muster-hub keys rotate-ca`")
    in_force = hub.catalogue.contact
    if in_force is None or waiting.ca_fingerprint not in in_force.authorities:
        raise Conflict(
            "targets that name the next authority are not signed yet: no device knows it"
        )
    strangers = _strangers(hub)
    with hub.store.read() as session:
        tokens = session.exec(
            select(func.count())
            .select_from(EnrolToken)
            .where(EnrolToken.expires > hub.clock(), EnrolToken.uses_left > 0)
        ).one()
    _say_unheard("are cut off until they are enrolled again", strangers)
    if not dry_run:
        asking.confirm(
            f"the authority before is gone: {len(strangers)} devices are cut off, and {tokens} "
            "enrolment tokens end",
            yes=yes,
        )
    _authorities(hub, (waiting.ca_fingerprint,), "keys.rotate-ca-finish", dry_run=dry_run)
    if not dry_run:
        promoted = pki.promote(hub.config.ca)
        write_durably(hub.config.data / CA_FILE, promoted.ca_pem)
        print("Restart the hub: it shows certificates of the new authority from then on. Give "
              f"operators {hub.config.data / CA_FILE} anew.")  # fmt: skip


def _authorities(hub: Hub, wanted: tuple[str, ...], action: str, *, dry_run: bool) -> None:
    plan = hub.catalogue.set_contact(
        lambda before: msgspec.structs.replace(before, authorities=wanted),
        time.time(),
        dry_run=dry_run,
    )
    cli_keys.done(hub, action, wanted[0][:16], plan, dry_run=dry_run, authorities=list(wanted))


def _maker(hub: Hub, certificate: Path | None, key: Path | None) -> Callable[[Path], Pki]:
    """What makes the next authority in a directory: a new one, or one from elsewhere."""
    if (certificate is None) != (key is None):
        raise typer.BadParameter("--ca-certificate and --ca-key go together", param_hint="CA")
    now = hub.clock()
    if certificate is None or key is None:
        name = f"Muster hub {hub.config.names[0]} {time.strftime('%Y-%m-%d', time.gmtime(now))}"
        return lambda place: pki.create(place, name, now)
    chain, private = certificate.read_bytes(), key.read_bytes()

    def adopt(place: Path) -> Pki:
        made = pki.adopt(place, chain, private, now)
        if len(made.certificate_der) > limits.AUTHORITY_BYTES_MAX:
            raise ConfigError(
                f"{certificate}: more than {limits.AUTHORITY_BYTES_MAX} bytes in DER: no directive "
                "can hold it"
            )
        return made

    return adopt


def _named(hub: Hub, fingerprint: str) -> bool:
    """Whether targets, drafted or in force, name an authority."""
    found: list[bool] = []

    def look(before: Approved) -> Approved:
        found.append(fingerprint in before.authorities)
        return before

    hub.catalogue.set_contact(look, hub.clock(), dry_run=True)
    return found == [True]


def _say_where(hub: Hub) -> None:
    approved = hub.catalogue.contact
    broker = BrokerAddress(*hub.config.broker_public)
    print(f"This hub is at {hub.config.url}, its broker at {broker}.")
    if approved is None:
        print("Devices seek it where they were enrolled; they have been told of no other address.")
    else:
        print(f"Devices find {approved}.")
        _say_unheard("have not heard of it", _deaf(hub))
    cli_keys.say_waiting(hub)


def _finishing(hub: Hub) -> str:
    deaf = _deaf(hub)
    _say_unheard("have not heard of the last move, and are lost if they seek an old address", deaf)
    return f"devices seek the hub only where it is now; {len(deaf)} have not heard of the last move"


def _deaf(hub: Hub) -> list[Unheard]:
    approved = hub.catalogue.contact
    with hub.store.read() as session:
        digest = "" if approved is None else approved.digest
        return heard.of_contact(session, digest, hub.clock())


def _strangers(hub: Hub) -> list[Unheard]:
    assert hub.pki.next is not None
    with hub.store.read() as session:
        return heard.of_authority(session, hub.pki.next.ca_fingerprint, hub.clock())


def _say_unheard(what: str, unheard: Sequence[Unheard]) -> None:
    print(f"{len(unheard)} devices {what}{':' if unheard else '.'}")
    for each in unheard[:NAMED_MAX]:
        print(f"  {each.device}: {each.why}")
    if len(unheard) > NAMED_MAX:
        print(f"  and {len(unheard) - NAMED_MAX} more")


def _first(wanted: T | None, before: tuple[T, ...]) -> tuple[T, ...]:
    """``wanted`` before the others, no more than a device is told."""
    listed = before if wanted is None else (wanted, *before)
    return tuple(dict.fromkeys(listed))[: limits.CONTACT_ADDRESSES_MAX]


def _url(text: str) -> str | None:
    if not text:
        return None
    parts = urlsplit(text.rstrip("/"))
    try:
        bad = parts.scheme != "https" or not parts.hostname or parts.path or parts.port == 0
    except ValueError:
        bad = True
    if bad or len(text) > limits.LINE_CHARS_MAX or not text.isascii():
        raise Invalid(f"--to {text!r}: use https://host or https://host:port")
    return text.rstrip("/")


def _address(text: str) -> BrokerAddress | None:
    if not text:
        return None
    parts = urlsplit(f"mqtts://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.path or "@" in text:
        raise Invalid(f"--broker {text!r}: use host:port")
    return BrokerAddress(host, port)
