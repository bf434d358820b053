"""What people, or a labelling tool, say that the right answers to samples are."""

import csv
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from muster_client.failures import WrongUsage

LINES_SUFFIXES = (".jsonl", ".jsonlines")


class _Own(Struct):
    """A line of our own: as ``muster sampling download`` writes them, with the label filled in."""

    sha256: str
    label: str | int | float | bool | None = None


class _Data(Struct):
    data: str


class _Event(Struct):
    event_id: Annotated[str, Meta(min_length=1)] = msgspec.field(name="eventId")


class _GroundTruth(Struct):
    """A line of ground truth as SageMaker Model Monitor merges it; its event is the sample."""

    data: _Data = msgspec.field(name="groundTruthData")
    event: _Event = msgspec.field(name="eventMetadata")


def read_labels(file: Path) -> dict[str, str]:
    """Labels by the samples' SHA-256, of a CSV with the columns ``sha256`` and ``label``, or of
    JSON Lines. Rows without a label are left out. Raises WrongUsage.
    """
    try:
        if file.suffix.lower() in LINES_SUFFIXES:
            return dict(_of_lines(file))
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WrongUsage(f"{file}: {error}") from None
    if not rows or not {"sha256", "label"} <= rows[0].keys():
        raise WrongUsage(f"{file}: needs the columns sha256 and label, and a row at least")
    return {row["sha256"]: row["label"] for row in rows if row["label"]}


def _of_lines(file: Path) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            if b'"groundTruthData"' in line:
                truth = msgspec.json.decode(line, type=_GroundTruth)
                found.append((truth.event.event_id, truth.data.data))
            else:
                own = msgspec.json.decode(line, type=_Own)
                found.append((own.sha256, _text(own.label)))
        except msgspec.DecodeError as error:
            raise WrongUsage(
                f"{file}, line {number}: {error}: needs sha256 and label, or groundTruthData and "
                "eventMetadata"
            ) from None
    labelled = [(name, label) for name, label in found if label]
    if not labelled:
        raise WrongUsage(f"{file}: no line has a label")
    return labelled


def _text(label: str | float | None) -> str:
    if label is None or isinstance(label, str):
        return label or ""
    return str(label).lower() if isinstance(label, bool) else f"{label:.12g}"
