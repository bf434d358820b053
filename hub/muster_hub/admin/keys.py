"""``muster-hub``'s commands about keys and signatures: making, changing, carrying, withdrawing.

``keygen`` and ``sign`` work on any machine; the others on the hub's directory, while it runs too.
"""

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from securesystemslib.signer import Signer
from sqlmodel import col, func, select

from muster_hub.admin import asking
from muster_hub.admin.asking import Yes
from muster_hub.api.hub import Hub
from muster_hub.audit import log
from muster_hub.errors import ConfigError
from muster_hub.registry import reading as registry_reading
from muster_hub.settings import config
from muster_hub.signing import hardware, keys, requests, roles
from muster_hub.signing.catalogue import SigningPlan
from muster_hub.signing.roles import Signatures
from muster_hub.storage.files import write_durably
from muster_hub.storage.models import Device, DirectiveRow

Data = Annotated[Path, typer.Option("--data", help="The hub's directory.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(help="File with the key's password; else MUSTER_KEY_PASSWORD, else it asks."),
]
PublicOfUri = Annotated[
    Path | None,
    typer.Option("--public", help="The URI's public half; not needed for a PKCS#11 token."),
]
KeyOption = Annotated[
    str, typer.Option(help="A private key made by `muster-hub keygen`, or a key's URI (hsm:…).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would have to be signed.")]
Public = Annotated[
    list[Path],
    typer.Option("--public", help="A .pub file; repeat for every key that the role should have."),
]
DEFAULT_DATA = Path("muster-hub")
PASSWORD_BYTES_MAX = 1024

keys_app = typer.Typer(
    help="Who may sign what: show and change keys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.command()(keygen)
    app.command("export-public")(export_public)
    app.command("signing-request")(signing_request)
    app.command()(sign)
    app.command("add-signatures")(add_signatures)
    app.command()(retire)
    app.add_typer(keys_app, name="keys")


def keygen(
    file: Annotated[Path, typer.Argument(help="File for the private key.")],
    *,
    model: Annotated[
        bool, typer.Option("--model", help="A P-256 key for model.sig instead.")
    ] = False,
    password_file: PasswordFile = None,
) -> None:
    """Make an Ed25519 signing key: FILE (keep it safe) and FILE.pub (give it to the hub)."""
    if file.exists():
        raise ConfigError(f"{file} exists: a key is never overwritten")
    password = ask_password(password_file, f"New password for {file}", twice=True)
    if model:
        keys.generate_model_key(file, password)
        print(f"{file} (private) and {file}.pub (public), for `muster-hub sign-model`")
    else:
        key = keys.generate(file, password)
        print(f"{file} (private) and {file}.pub (public), key id {key.keyid}")
    if password is None:
        print(f"It is not encrypted: whoever copies it can sign. See --password-file, or "
              f"{keys.PASSWORD_VARIABLE}.")  # fmt: skip


def export_public(
    uri: Annotated[str, typer.Argument(help="hsm:ID?label=TOKEN; PYKCS11LIB names its module.")],
    file: Annotated[Path, typer.Argument(help="File for the public half, such as ann.pub.")],
    *,
    password_file: PasswordFile = None,
) -> None:
    """Write the public half of a P-256 key on a PKCS#11 token, to be given to the hub."""
    key = hardware.public_of(uri, _pin(password_file, uri))
    write_durably(file, str(key.keyval["public"]).encode())
    print(f"{file}: the public half of {uri}, key id {key.keyid}")


def signing_request(
    out: Annotated[Path, typer.Argument(help="Folder for the files to sign.")],
    *,
    data: Data = DEFAULT_DATA,
) -> None:
    """Write what waits for signatures as files, to be carried to where the keys are."""
    hub = open_hub(data)
    pending, waiting = hub.catalogue.pending(), hub.catalogue.waiting()
    names = hub.keyring.names()
    (out / requests.FILE).parent.mkdir(parents=True, exist_ok=True)
    with hub.store.read() as session:
        manifests = registry_reading.waiting_manifests(session)
    about = requests.about(hub.catalogue, names, manifests)
    (out / requests.FILE).write_bytes(msgspec.json.encode(about))
    for role, draft in pending.items():
        (out / f"{role}.json").write_bytes(draft)
        print(f"{out / f'{role}.json'}: for the {roles.key_role(role)} key")
        for group in waiting[role]:
            print(f"  {describe(group, names)}")
    if not pending:
        print("Nothing waits for signatures.")


def sign(
    files: Annotated[list[Path], typer.Argument(help="Files of a signing request.")],
    *,
    key: KeyOption,
    public: PublicOfUri = None,
    password_file: PasswordFile = None,
) -> None:
    """Sign files of a signing request in place. Read what it prints: that is what you approve."""
    signer = open_key(key, public, password_file)
    for file in files:
        draft, about = file.read_bytes(), requests.read(file.parent)
        requests.check_may_sign(about, draft, signer, key)
        print(f"{file}: {roles.describe(draft)}")
        for line in requests.approved(about, draft):
            print(f"  {line}")
        file.write_bytes(roles.add_signature(draft, signer))


def open_key(key: str, public: Path | None, password_file: Path | None) -> Signer:
    """A signer of a key's file or URI; asks for what opens it. Raises ConfigError."""
    if hardware.is_uri(key):
        pin = _pin(password_file, key)
        known = hardware.public_of(key, pin) if public is None else keys.load_public(public)
        return hardware.open_signer(key, known, pin)
    encrypted = keys.is_encrypted(Path(key))
    password = ask_password(password_file, f"Password of {key}", twice=False) if encrypted else None
    return keys.load_signer(Path(key), password)


def add_signatures(
    files: Annotated[list[Path], typer.Argument(help="Signed files of a signing request.")],
    *,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take signed files in. A running hub publishes within seconds what is complete."""
    hub = open_hub(data)
    for file in files:
        hub.catalogue.add_signatures(file.read_bytes(), time.time())
    hub.releases.settle()
    say_waiting(hub)


def retire(
    model: Annotated[str, typer.Argument()],
    version: Annotated[
        str | None, typer.Argument(help="One version; by default all of the model's.")
    ] = None,
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take a version, or a whole model, out: no device installs it again. What runs goes on."""
    hub = open_hub(data)
    plan = hub.releases.retire(model, version, "hub-cli", dry_run=True)
    if not dry_run:
        asking.confirm(_retired(hub, model, version), yes=yes)
        plan = hub.releases.retire(model, version, "hub-cli")
    say_plan(hub, plan, dry_run=dry_run)


@keys_app.command("show")
def show(*, data: Data = DEFAULT_DATA) -> None:
    """Show who may sign each role, when it expires, and what waits for whose signature."""
    hub = open_hub(data)
    names = hub.keyring.names()
    for role, standing in hub.catalogue.standing().items():
        who = ", ".join(_called(key, names) for key in standing.keyids)
        here = " (on this hub)" if hub.keyring.signers(standing.keyids) else ""
        print(f"{role}: {standing.threshold} of {who}{here}; "
              f"version {standing.version}, good until {_day(standing.expires)}")  # fmt: skip
    say_waiting(hub)


@keys_app.command("set")
def set_keys(
    role: Annotated[
        str,
        typer.Argument(help="root | targets | release (every model) | model-<name>"),
    ],
    *,
    public: Public,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="How many must sign; more than half by default.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give a role exactly these keys. A key left out is withdrawn once the others have signed."""
    if role in keys.ONLINE:
        raise ConfigError(f"the {role} key is the hub's own: `muster-hub keys rotate {role}`")
    hub = open_hub(data)
    group = keys.group(map(keys.load_public, public), threshold)
    now = time.time()
    if not dry_run:
        planned = hub.catalogue.set_keys(role, group, now, dry_run=True)
        asking.confirm(
            f"{role} is signed by {group.threshold} of {len(group.ids)} keys, and by no other, "
            f"once this is signed: {in_one_line(planned)}",
            yes=yes,
        )
        hub.keyring.put_names(names_of(public))
    plan = hub.catalogue.set_keys(role, group, now, dry_run=dry_run)
    done(hub, "keys.set", role, plan, dry_run=dry_run, keys=group.ids, threshold=group.threshold)


@keys_app.command("rotate")
def rotate(
    role: Annotated[str, typer.Argument(help=" | ".join(keys.ONLINE))],
    *,
    uri: Annotated[
        str | None,
        typer.Option(help="Take this key in hardware (hsm:…); the hub needs its PIN, too."),
    ] = None,
    public: PublicOfUri = None,
    password_file: PasswordFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Replace one of the hub's own keys; the old one is deleted when the new one is in force."""
    hub = open_hub(data)
    if not dry_run:
        planned = hub.catalogue.rotate_online(role, time.time(), dry_run=True)
        asking.confirm(
            f"the {role} key of this hub is deleted as soon as this is signed: "
            f"{in_one_line(planned)}",
            yes=yes,
        )
    found = None
    if uri is not None:
        key = (
            hardware.public_of(uri, _pin(password_file, uri))
            if public is None
            else keys.load_public(public)
        )
        found = (uri, key)
    plan = hub.catalogue.rotate_online(role, time.time(), hardware=found, dry_run=dry_run)
    done(hub, "keys.rotate", role, plan, dry_run=dry_run)


@keys_app.command("new-epoch")
def new_epoch(*, dry_run: DryRun = False, yes: Yes = False, data: Data = DEFAULT_DATA) -> None:
    """Make devices ignore every directive signed so far: after a restore or an attack."""
    hub = open_hub(data)
    if not dry_run:
        with hub.store.read() as session:
            devices = session.exec(select(func.count()).select_from(DirectiveRow)).one()
        asking.confirm(
            f"the directives of {devices} devices are void and are signed anew in another epoch",
            yes=yes,
        )
    plan = hub.catalogue.new_epoch(time.time(), dry_run=dry_run)
    done(hub, "keys.new-epoch", "director", plan, dry_run=dry_run)


@keys_app.command("refresh")
def refresh(*, data: Data = DEFAULT_DATA) -> None:
    """Sign what expires soon, as a running hub does, and draft what the hub can't sign."""
    hub = open_hub(data)
    while hub.catalogue.refresh(time.time()):
        pass
    hub.catalogue.draft_due(time.time())
    say_waiting(hub)


def names_of(files: Iterable[Path]) -> dict[str, str]:
    """Key ids to the names of their files."""
    return {keys.load_public(path).keyid: path.name.removesuffix(".pub") for path in files}


def describe(group: Signatures, names: dict[str, str]) -> str:
    """Who has signed and who may, in words."""
    signed = ", ".join(_called(key, names) for key in group.signed) or "nobody"
    missing = ", ".join(_called(key, names) for key in group.unsigned)
    need = f"{len(group.signed)} of {group.threshold} signatures; signed by {signed}"
    return need if group.complete else f"{need}; may sign: {missing}"


def _retired(hub: Hub, model: str, version: str | None) -> str:
    """What a retirement does, in words."""
    what = f"every version of {model}" if version is None else f"{model} {version}"
    with hub.store.read() as session:
        reports = session.exec(select(Device.report).where(col(Device.report).is_not(None)))
        running = sum(_runs(report or {}, model, version) for report in reports)
    return (
        f"{what} is installed by no device any more and is never signed again; {running} devices "
        "run it now and go on"
    )


def _runs(report: Mapping[str, Any], model: str, version: str | None) -> bool:
    found = [slot.get("running") or {} for slot in (report.get("slots") or {}).values()]
    return any(
        item.get("model") == model and version in (None, item.get("version")) for item in found
    )


def in_one_line(plan: SigningPlan) -> str:
    """A plan as part of a question."""
    return "; ".join(f"{role}: {words}" for role, words in plan.items()) or "nothing"


def _called(key: str, names: dict[str, str]) -> str:
    return f"{names[key]} ({key[:8]})" if key in names else key[:8]


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def open_hub(data: Path) -> Hub:
    """The hub in a directory, whether it runs or not. Raises ConfigError."""
    return Hub.open(config.load(data), time.time)


def done(
    hub: Hub, action: str, subject: str, plan: SigningPlan, *, dry_run: bool, **detail: object
) -> None:
    """Record an act, unless it was only planned, and say what is to be signed for it."""
    if not dry_run:
        with hub.store.write() as session:
            log.append(
                session, actor="hub-cli", action=action, subject=subject, now=time.time(), **detail
            )
        hub.releases.settle()
    say_plan(hub, plan, dry_run=dry_run)


def say_plan(hub: Hub, plan: SigningPlan, *, dry_run: bool) -> None:
    """Print what is to be signed."""
    if dry_run:
        print("Nothing was changed. This would have to be signed:")
    for role, text in plan.items():
        print(f"{role}: {text}")
    if not dry_run:
        say_waiting(hub)


def say_waiting(hub: Hub) -> None:
    """Print what waits for whose signature."""
    waiting, names = hub.catalogue.waiting(), hub.keyring.names()
    if not waiting:
        print("Everything is signed.")
        return
    print(f"Still waiting for signatures: {', '.join(waiting)}")
    for role, groups in waiting.items():
        for group in groups:
            print(f"  {role}: {describe(group, names)}")


def _pin(file: Path | None, uri: str) -> Callable[[], str]:
    """Asked for once, and only when the token wants it."""

    @functools.cache
    def ask() -> str:
        pin = ask_password(file, f"PIN for {uri}", twice=False)
        if pin is None:
            raise ConfigError(f"{uri} needs its PIN: see --password-file")
        return pin.decode()

    return ask


def ask_password(file: Path | None, prompt: str, *, twice: bool) -> bytes | None:
    """From the file, the environment or the terminal; None without any of them."""
    if file is not None:
        try:
            text = file.read_bytes()[:PASSWORD_BYTES_MAX].rstrip(b"\r\n")
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}") from None
        if not text:
            raise ConfigError(f"{file} is empty: it should hold the password")
        return text
    if keys.PASSWORD_VARIABLE in os.environ:
        return os.environ[keys.PASSWORD_VARIABLE].encode()
    if not sys.stdin.isatty():
        return None
    typed = typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, default="")
    return str(typed).encode() or None
