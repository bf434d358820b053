"""The device's trust store as a command line, in the shape that TUF's conformance suite drives.

    python -m muster_agent.trust.cli --metadata-dir DIR init ROOT
    python -m muster_agent.trust.cli --metadata-dir DIR --metadata-url URL refresh
    python -m muster_agent.trust.cli --metadata-dir DIR --metadata-url URL --target-name PATH
        --target-base-url URL --target-dir DIR download

``DIR/store`` is a trust store as on a device; what it trusts is shown beside it under plain names
(``root.json``, ``timestamp.json``, …). The system clock counts as synchronised. Exit code 1 means
refused, with one line on stderr.
"""

import argparse
import sys
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from tuf.api import exceptions
from tuf.api.metadata import TargetFile

from muster_agent.storage.files import make_directory, write_durably
from muster_agent.trust.http import HttpFiles
from muster_agent.trust.store import TrustStore, TrustStoreError
from muster_agent.trust.time import ClockReading
from muster_agent.trust.trusted import TrustRefused, refusal_of
from muster_protocol.wire import limits
from muster_protocol.wire.errors import MusterError, Refusal

STORE = "store"
ROOT_HISTORY = "root_history/"
TARGET_BYTES_MAX = limits.BUNDLE_BYTES_MAX


def main(argv: Sequence[str] | None = None) -> int:
    """The command that conformance suites drive; 0 when the repository was verified."""
    arguments = _parser().parse_args(argv)
    reading = ClockReading(time.time(), "synchronised")
    try:
        if arguments.command == "init":
            _init(arguments.metadata_dir, arguments.root)
        else:
            _update(arguments, reading)
    except TrustRefused as refused:
        return _fail(f"{refused.refusal.value}: {refused}")
    except exceptions.RepositoryError as error:
        return _fail(str(refusal_of(error)))
    except (MusterError, exceptions.DownloadError, OSError) as error:
        return _fail(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="muster_agent.trust.cli", description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name")
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


def _init(directory: Path, root: Path) -> None:
    store = directory / STORE
    if (store / "root.json").exists():
        raise TrustStoreError(f"{directory} is set up already: a factory root is never replaced")
    make_directory(store)
    data = root.read_bytes()
    write_durably(store / "root.json", data)
    write_durably(directory / "root.json", data)


def _update(arguments: argparse.Namespace, reading: ClockReading) -> None:
    """Refresh, and download too when asked; what is trusted is shown however it ends."""
    download = arguments.command == "download"
    needed = ["metadata_url"]
    needed += ["target_name", "target_base_url", "target_dir"] if download else []
    for name in needed:
        if getattr(arguments, name) is None:
            raise MusterError(f"{arguments.command} needs --{name.replace('_', '-')}")
    path = arguments.target_name if download else None
    store = TrustStore(arguments.metadata_dir / STORE)
    try:
        trusted = store.locate(HttpFiles(arguments.metadata_url).get, path, reading)
    finally:
        _show(store, arguments.metadata_dir)
    if path is None:
        return
    target = trusted.find(path)
    if target is None:
        raise TrustRefused(Refusal.UNSIGNED_MANIFEST, f"no signed metadata name {path!r}")
    prefixed = bool(getattr(trusted.roles["root"], "consistent_snapshot", True))
    _download(target, arguments.target_base_url, arguments.target_dir, prefixed=prefixed)


def _show(store: TrustStore, directory: Path) -> None:
    """Lay out what is held under plain names; what is no longer held goes."""
    held = {name: data for name, data in store.files().items() if "/" not in name}
    newest = f"{ROOT_HISTORY}{store.versions()['root']}.root.json"
    held["root.json"] = store.files().get(newest) or store.factory_root
    for path in directory.glob("*.json"):
        if path.name not in held:
            path.unlink()
    for name, data in held.items():
        write_durably(directory / name, data)


def _download(target: TargetFile, base: str, directory: Path, *, prefixed: bool) -> None:
    """Fetch a target unless it is there; only verified bytes get its name.

    ``prefixed``: it lies under the name of its hash, as consistent snapshots have it.
    """
    kept = directory / urllib.parse.quote(target.path, "")
    if kept.is_file() and _fits(target, kept.read_bytes()):
        return
    if target.length > TARGET_BYTES_MAX:
        raise TrustRefused(Refusal.TOO_LARGE, f"{target.path} has {target.length} bytes")
    data = _fetch(target, base, prefixed=prefixed)
    make_directory(directory)
    write_durably(kept, data)


def _fetch(target: TargetFile, base: str, *, prefixed: bool) -> bytes:
    folder, slash, name = target.path.rpartition("/")
    digest = next(iter(target.hashes.values()))
    path = f"{folder}{slash}{digest}.{name}" if prefixed else target.path
    data = HttpFiles(base, bytes_max=target.length).get(urllib.parse.quote(path))
    if data is None:
        raise TrustRefused(Refusal.CHUNK_MISSING, f"{target.path} is not at {base}")
    if not _fits(target, data):
        raise TrustRefused(
            Refusal.CHUNK_ALTERED,
            f"{target.path} is not what release keys signed (an arbitrary software attack)",
        )
    return data


def _fits(target: TargetFile, data: bytes) -> bool:
    try:
        target.verify_length_and_hashes(data)
    except exceptions.RepositoryError:
        return False
    return True


def _fail(message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
