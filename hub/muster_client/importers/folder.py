"""A folder with a model's file in it, as other tools leave it.

DVC's note beside it is checked; in a git repository its commit and GTO's tags come along.
"""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from muster_client.failures import OperatorError, WrongUsage
from muster_client.importers.base import SMALL_BYTES_MAX, Brought, Found, lineage
from muster_client.importers.download import digest_of
from muster_client.importers.git_tags import commit_of, registered, tags_at
from muster_client.packing.model_file import SUFFIXES


class FolderImporter:
    """A model's file, alone of its kind in its folder, or named."""

    form = "PATH, a folder with one model file, or the file"

    def find(self, place: str) -> Found:
        model = only_model(Path(place))
        digest = digest_of(model)
        noted = _dvc_digest(model)
        says = f"{model.name} (SHA-256 {digest[:16]}…)" + (f", DVC md5 {noted}" if noted else "")
        # What DVC tracks is in git by its note alone.
        commit = commit_of(_note_of(model) if noted else model)
        gto = registered(tags_at(model), commit, model.stem.lower()) if commit else None
        words = ""
        if gto is not None:
            stages = f", stages {', '.join(gto.stages)}" if gto.stages else ""
            words = f"GTO: {gto.artifact} {gto.version or 'without a version'}{stages}"
        return Found(
            digest,
            gto.artifact if gto is not None else model.stem,
            gto.version if gto is not None else "",
            origin=lineage(source=says, commit=commit, notes=words),
            detail=model,
        )

    def bring(self, found: Found, _room: Path) -> Brought:
        return Brought(found.detail, found.origin)


IMPORTER = FolderImporter()


def only_model(place: Path) -> Path:
    """The model's file that a path names, or that is alone in the folder it names."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise WrongUsage(f"{place}: there is no such file or folder")
    if (place / "manifest.json").exists():
        raise WrongUsage(f"{place}: a bundle already: `muster model push {place}`")
    models = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
    if not models:
        raise WrongUsage(f"{place}: no file that ends with {', '.join(SUFFIXES)} in it")
    if len(models) > 1:
        names = ", ".join(path.name for path in models)
        raise WrongUsage(f"{place}: which of {names}? Name the file")
    return models[0]


def _note_of(model: Path) -> Path:
    return model.with_name(f"{model.name}.dvc")


def _dvc_digest(model: Path) -> str:
    """The MD5 by which DVC tracks the file; empty: it doesn't. Raises OperatorError otherwise."""
    note = _note_of(model)
    if not note.is_file() or note.stat().st_size > SMALL_BYTES_MAX:
        return ""
    try:
        parsed: Any = yaml.safe_load(note.read_text(encoding="utf-8"))
        noted = str(parsed["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError, UnicodeDecodeError):
        raise WrongUsage(f"{note}: not a note of DVC with an md5 in it") from None
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if noted != digest:
        raise OperatorError(
            f"{model}: it isn't the file that {note.name} names (md5 {noted}): run `dvc checkout`"
        )
    return noted
