"""The Hugging Face Hub, by commit: what a branch or tag is now is looked up once."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from muster_client.failures import OperatorError, WrongUsage
from muster_client.importers.base import BYTES_MAX, FILES_MAX, Brought, Found, lineage
from muster_client.importers.download import Expected, ServerRefused, Web
from muster_client.importers.mlflow_files import is_plain
from muster_client.packing.model_file import SUFFIXES

PUBLIC = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
_PLACE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>.+))?")
SIDE_FILES = ("_data", ".data")
"""What ONNX exporters add to a model's name for a file with its weights."""


class HuggingFaceImporter:
    """A model's file of a repository."""

    form = "ORGANISATION/NAME[@REVISION][/FILE] (HF_TOKEN, HF_ENDPOINT)"

    def find(self, place: str) -> Found:
        parsed = _PLACE.fullmatch(place)
        if parsed is None:
            raise WrongUsage(f"huggingface:{place}: write huggingface:{self.form}")
        repo, revision = parsed["repo"], parsed["revision"] or "main"
        with _Hub() as hub:
            view = hub.revision(repo, revision)
        commit = str(view.get("sha", ""))
        if not COMMIT.fullmatch(commit):
            raise OperatorError(f"Hugging Face: {repo}@{revision}: it names no commit")
        files = {str(each["rfilename"]): each for each in view.get("siblings", [])}
        file = _chosen(repo, files, parsed["file"] or "")
        beside = [
            name
            for name in files
            if name == file or any(name == f"{file}{more}" for more in SIDE_FILES)
        ]
        if not all(map(is_plain, beside)) or len(beside) > FILES_MAX:
            raise OperatorError(f"Hugging Face: {repo}: a file's name leaves the folder")
        return Found(
            f"{repo}@{commit}/{file}",
            repo.rpartition("/")[2],
            commit[:12],
            _lineage(repo, commit, file, view.get("cardData") or {}),
            (repo, commit, file, {name: files[name] for name in beside}),
        )

    def bring(self, found: Found, room: Path) -> Brought:
        repo, commit, model, files = found.detail
        left = BYTES_MAX
        with _Hub() as hub:
            for name, listed in files.items():
                path = f"/{quote(repo)}/resolve/{commit}/{quote(name)}"
                hub.file(path, room / name, _expected(listed), left)
                left -= (room / name).stat().st_size
        return Brought(room / model, found.origin)


IMPORTER = HuggingFaceImporter()


class _Hub(Web):
    """The server that Hugging Face's own variables name."""

    def __init__(self) -> None:
        token = os.environ.get("HF_TOKEN", "")
        super().__init__(
            "Hugging Face",
            os.environ.get("HF_ENDPOINT", PUBLIC),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            hint="Set HF_TOKEN to a token that may read it",
        )

    def revision(self, repo: str, revision: str) -> dict[str, Any]:
        """A repository at a revision, with its files. Raises WrongUsage for an unknown one."""
        path = f"/api/models/{quote(repo)}/revision/{quote(revision)}"
        try:
            found: dict[str, Any] = self.json(path, blobs="true")
        except ServerRefused as refusal:
            if refusal.status == 404:
                raise WrongUsage(
                    f"Hugging Face at {self.url}: no revision {revision!r} of {repo!r}: "
                    f"{refusal.says}"
                ) from None
            raise
        return found


def _chosen(repo: str, files: dict[str, Any], wanted: str) -> str:
    models = [name for name in files if name.lower().endswith(tuple(SUFFIXES))]
    if wanted:
        if wanted not in files:
            raise WrongUsage(
                f"Hugging Face: {repo} has no file {wanted!r}; models in it: "
                f"{', '.join(models[:10]) or 'none'}"
            )
        return wanted
    if not models:
        raise WrongUsage(
            f"Hugging Face: {repo} has no file that ends with {', '.join(SUFFIXES)}: export it "
            "(`optimum-cli export onnx`) and import the folder"
        )
    if len(models) > 1:
        raise WrongUsage(
            f"Hugging Face: {repo} has several models: name one, as in "
            f"huggingface:{repo}@REVISION/{models[0]} (there are {', '.join(models[:10])})"
        )
    return models[0]


def _expected(listed: dict[str, Any]) -> Expected:
    lfs = listed.get("lfs") or {}
    size = lfs.get("size", listed.get("size"))
    return Expected(
        size_bytes=int(size) if size is not None else None,
        sha256=str(lfs.get("sha256") or ""),
        git_sha1="" if lfs else str(listed.get("blobId") or ""),
    )


def _lineage(repo: str, commit: str, file: str, card: dict[str, Any]) -> Any:
    notes = [
        f"{what}: {value if isinstance(value, str) else ', '.join(map(str, value))}"
        for what in ("license", "base_model", "tags", "language")
        if (value := card.get(what)) and isinstance(value, str | list)
    ]
    datasets = card.get("datasets") or []
    return lineage(
        source=f"huggingface:{repo}/{file}",
        commit=commit,
        data=datasets if isinstance(datasets, str) else ", ".join(map(str, datasets)),
        metrics=_card_metrics(card),
        notes="\n".join(notes),
    )


def _card_metrics(card: dict[str, Any]) -> dict[str, Any]:
    """Metrics by name, where a card of one result says them."""
    models = card.get("model-index") or []
    results = [result for each in models for result in each.get("results") or []]
    metrics = results[0].get("metrics") or [] if len(results) == 1 else []
    return {str(each.get("type")): each.get("value") for each in metrics}
