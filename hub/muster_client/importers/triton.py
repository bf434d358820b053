"""A model in the layout of a Triton repository: MODEL/config.pbtxt and MODEL/VERSION/model.onnx."""

import re
from pathlib import Path
from typing import Any

from muster_client.failures import WrongUsage
from muster_client.importers.base import SMALL_BYTES_MAX, Brought, Found, lineage
from muster_client.importers.download import digest_of
from muster_client.importers.folder import only_model

CONFIG = "config.pbtxt"
BACKENDS = frozenset({"", "onnxruntime", "onnxruntime_onnx", "tensorflow_lite"})
"""Words of ``backend`` and ``platform`` whose files can run on a device."""
_FIELD = re.compile(r'\b([a-z_]+)\s*:\s*(?:"([^"]*)"|([\w.-]+))')


class TritonImporter:
    """One model of a repository; the highest version unless one is named."""

    form = "PATH/MODEL or PATH/MODEL@VERSION, a model's folder in a Triton repository"

    def find(self, place: str) -> Found:
        path, _, wanted = place.rpartition("@") if "@" in Path(place).name else (place, "", "")
        folder = Path(path)
        config = _read(folder / CONFIG)
        backend = config.get("backend") or config.get("platform", "")
        if backend not in BACKENDS:
            raise WrongUsage(
                f"{folder / CONFIG}: a model for {backend!r}, which no device runs: "
                "export it as ONNX"
            )
        versions = {p.name: p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()}
        if not versions:
            raise WrongUsage(
                f"{folder}: no version in it: a folder named by a number, like {path}/1"
            )
        version = wanted or max(versions, key=int)
        if version not in versions:
            known = ", ".join(sorted(versions, key=int))
            raise WrongUsage(f"{folder}: no version {version!r}; there are {known}")
        named = config.get("default_model_filename")
        model = only_model(versions[version] / named if named else versions[version])
        digest = digest_of(model)
        name = config.get("name") or folder.name
        source = f"Triton repository, {name}/{version} (SHA-256 {digest[:16]}…)"
        detail = (model, _classes(folder, config))
        return Found(f"{name}/{version} {digest}", name, version, lineage(source=source), detail)

    def bring(self, found: Found, _room: Path) -> Brought:
        model, classes = found.detail
        options: dict[str, Any] = {"classes": classes} if classes else {}
        return Brought(model, found.origin, options)


IMPORTER = TritonImporter()


def _read(path: Path) -> dict[str, str]:
    """The fields that matter, in whichever message they stand; the first of a name counts."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(SMALL_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{path}: can't be read: {error}") from None
    plain = re.sub(r"#[^\n]*", "", text)
    found: dict[str, str] = {}
    depth_zero = re.sub(r"[\[{][^\[\]{}]*[\]}]", "", plain)
    while depth_zero != (inner := re.sub(r"[\[{][^\[\]{}]*[\]}]", "", depth_zero)):
        depth_zero = inner
    for name, text_value, word in _FIELD.findall(depth_zero):
        found.setdefault(name, text_value or word)
    labels = re.search(r'\blabel_filename\s*:\s*"([^"]+)"', plain)
    if labels:
        found["label_filename"] = labels[1]
    return found


def _classes(folder: Path, config: dict[str, str]) -> list[str]:
    """Names of classes, a line each, from the file that an output names."""
    name = config.get("label_filename", "")
    path = folder / name
    if not name or path.parent != folder or not path.is_file():
        return []
    if path.stat().st_size > SMALL_BYTES_MAX:
        raise WrongUsage(f"{path}: larger than {SMALL_BYTES_MAX} bytes")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
