"""``muster-hub``'s commands about bundles as folders: check, sign and verify the files."""

import io
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric import ec

from muster_hub.admin.keys import PasswordFile, ask_password
from muster_hub.errors import ConfigError, Invalid
from muster_hub.registry import bundle
from muster_hub.registry.check import WorkerCheck
from muster_hub.settings import config
from muster_hub.signing import keys, model_signature
from muster_hub.storage.files import write_durably
from muster_protocol.wire import manifest
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.listing import cut_file
from muster_protocol.wire.manifest import Manifest

MANIFEST = "manifest.json"
Folder = Annotated[Path, typer.Argument(help="Folder with manifest.json and its files.")]


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.command()(check)
    app.command("sign-model")(sign_model)
    app.command("verify-model")(verify_model)


def check(folder: Folder) -> None:
    """Check a bundle as a push would: load every build, run its golden vectors."""
    parsed = _manifest(folder)
    _check_files(folder, {file.path: file.sha256 for file in parsed.files})
    bundle.check_usable(parsed, folder)
    result = WorkerCheck(config.CheckSettings().wall_seconds)(folder.resolve(), parsed)
    for build in result.builds:
        print(f"{build['runtime']}: {'ok' if build['ok'] else build.get('detail')}")
    if not result.ok:
        raise MusterError(f"{parsed.model} {parsed.version} fails: {result.reason}")


def sign_model(
    folder: Folder,
    *,
    key: Annotated[Path, typer.Option(help="A P-256 key made by `muster-hub keygen --model`.")],
    password_file: PasswordFile = None,
) -> None:
    """Write model.sig (OpenSSF model signing) over the files, and list it in manifest.json."""
    parsed = _manifest(folder)
    needed = keys.is_encrypted(key)
    password = ask_password(password_file, f"Password of {key}", twice=False) if needed else None
    private = keys.load_private(key, password)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{key} is not a P-256 key: make one with `muster-hub keygen --model`")
    files = tuple(file for file in parsed.files if file.path != model_signature.FILE)
    hashes = {file.path: file.sha256 for file in files}
    _check_files(folder, hashes)
    data = model_signature.sign(hashes, f"{parsed.model}-{parsed.version}", private)
    signature_file = cut_file(model_signature.FILE, io.BytesIO(data), lambda _: None)
    encoded = manifest.encode(msgspec.structs.replace(parsed, files=(*files, signature_file)))
    write_durably(folder / model_signature.FILE, data)
    write_durably(folder / MANIFEST, encoded)
    print(f"{folder / model_signature.FILE}: {len(files)} files of {parsed.model} "
          f"{parsed.version}; {MANIFEST} lists it")  # fmt: skip


def verify_model(
    folder: Folder,
    *,
    public: Annotated[
        list[Path], typer.Option(help="A .pub file; repeat to accept any of several keys.")
    ],
) -> None:
    """Check that model.sig is by one of these keys and that the files are those it lists."""
    trusted = [model_signature.read_public(_read(path), str(path)) for path in public]
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    hashes = {name: _sha256(folder / name) for name in names}
    data = _read(folder / model_signature.FILE)
    model_signature.check(data, hashes, trusted)
    print(f"{folder}: every file is as it was signed")


def _manifest(folder: Path) -> Manifest:
    return manifest.decode(_read(folder / MANIFEST))


def _check_files(folder: Path, hashes: dict[str, str]) -> None:
    for name, digest in hashes.items():
        if _sha256(folder / name) != digest:
            raise Invalid(f"{folder / name} is not the file that {MANIFEST} lists: pack it again")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return cut_file(path.name, file, lambda _: None).sha256
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
