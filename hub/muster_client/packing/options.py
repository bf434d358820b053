"""What a person may say of a model beyond its file: flags, `muster.toml`, or keywords in Python.

Command line, file, template and Python take exactly the fields of ``Options``.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from muster_client.failures import WrongUsage
from muster_protocol.wire import limits

FILE = "muster.toml"
ROWS_MAX = 200_000
_UNNAMED = re.compile(r"[^a-z0-9._-]+")


Positive = Annotated[int, Meta(ge=1)]
Mebibytes = Annotated[int, Meta(ge=1, le=65_536)]
Threads = Annotated[int, Meta(ge=1, le=limits.THREADS_MAX)]
Rtol = Annotated[float, Meta(ge=0, le=limits.GOLDEN_RTOL_MAX)]
Atol = Annotated[float, Meta(ge=0, le=limits.GOLDEN_ATOL_MAX)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]


def _said(meaning: str, example: Any = None) -> Meta:
    return Meta(description=meaning, examples=[example])


class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """How to pack a model. Whatever is left out is inferred, and said."""

    name: Annotated[str, _said("Of the model; by default its file's.", "pump")] = ""
    version: Annotated[
        str, _said("By default 1; when it is pushed at once, the hub's next number.", "1")
    ] = ""
    data: Annotated[
        str,
        _said(
            "Training data, in order of time: .csv (also with ;), .parquet, .npz, or a folder of "
            "pictures.",
            "train.csv",
        ),
    ] = ""
    sample: Annotated[
        str, _said("A few inputs (.npz or a table), where there is no training data.", "sample.npz")
    ] = ""
    features: Annotated[
        str,
        _said(
            "A JSON file of features or image, window and quality, for devices' feeds.",
            "features.json",
        ),
    ] = ""
    labels: Annotated[str, _said("The column with the right answers.", "fault")] = ""
    time: Annotated[str, _said("The column with each row's time.", "at")] = ""
    context: Annotated[str, _said("The column that tells recipe, mode or product.", "recipe")] = ""
    drop: Annotated[tuple[str, ...], _said("Columns that are no input.", ["serial"])] = ()
    group: Annotated[
        tuple[str, ...],
        _said("Columns by whose values metrics are kept apart, to compare groups.", ["site"]),
    ] = ()
    columns: Annotated[
        dict[str, tuple[str, ...]],
        _said("Columns of an input, where their order doesn't say.", {"x": ["flow", "pressure"]}),
    ] = {}
    shape: Annotated[
        dict[str, tuple[int, ...]],
        _said("Sizes of an input that the model leaves open.", {"image": [1, 3, 224, 224]}),
    ] = {}
    batch_axis: Annotated[
        dict[str, str],
        _said("Where an input has its batch, counted from 0, or none.", {"state": "1"}),
    ] = {}
    state: Annotated[
        dict[str, str],
        _said("Inputs that take what an output gave, carried by the caller.", {"h": "h_out"}),
    ] = {}
    sessions: Annotated[
        Literal["", "per-connection", "single"],
        _said("The model itself remembers: for each connection, or for all.", "per-connection"),
    ] = ""
    classes: Annotated[
        tuple[str, ...], _said("Names of the classes, in the order of the scores.", ["ok", "worn"])
    ] = ()
    classifier: Annotated[
        str, _said("The output with the scores; none: it has no classes.", "probabilities")
    ] = ""
    image: Annotated[
        dict[str, str], _said("Inputs that are images, as HEIGHTxWIDTH.", {"image": "224x224"})
    ] = {}
    window_rows: Annotated[Positive | None, _said("Rows that a device sees in one window.", 80)] = (
        None
    )
    window_seconds: Annotated[Seconds, _said("How long a device's windows are.", 300.0)] = 300.0
    shuffled: Annotated[
        bool, _said("Rows are in no order of time: alerts will be worse.", example=True)
    ] = False
    no_baseline: Annotated[
        bool, _said("Don't learn what is normal: drift won't be seen.", example=True)
    ] = False
    no_explanation: Annotated[
        bool,
        _said("Don't find out from the data which inputs the answers hang on.", example=True),
    ] = False
    rows: Annotated[Positive, _said("Of the data that are used at most, the last.", ROWS_MAX)] = (
        ROWS_MAX
    )
    fallback: Annotated[
        tuple[str, ...],
        _said(
            "What answers when no model can: no-decision, last-good=SECONDS or constant=A,B,…",
            ["last-good=60", "no-decision"],
        ),
    ] = ()
    memory_mib: Annotated[
        Mebibytes | None, _said("Memory it may take; by default twice what was measured.", 256)
    ] = None
    providers: Annotated[
        tuple[str, ...],
        _said(
            "What is to compute it, preferred first; what one can't do is for those after it.",
            ["OpenVINO", "CPU"],
        ),
    ] = ()
    threads: Annotated[Threads | None, _said("That one request may take.", 2)] = None
    rtol: Annotated[Rtol | None, _said("Relative tolerance of golden vectors.", 1e-3)] = None
    atol: Annotated[Atol | None, _said("Absolute tolerance of golden vectors.", 1e-4)] = None
    trust_pickle: Annotated[
        bool, _said("Open a pickled estimator: its maker is to be trusted.", example=True)
    ] = False
    quantise: Annotated[
        Literal["", "dynamic", "static"],
        _said("Make an int8 model of it, and say what that loses.", "dynamic"),
    ] = ""
    probation_seconds: Annotated[
        Seconds | None, _said("How long a device tries it before it keeps it.", 60.0)
    ] = None
    source: Annotated[
        str, _said("Where the model comes from, for its lineage.", "registry/pump/7")
    ] = ""
    commit: Annotated[str, _said("Of the code that made it.", "4f2a91c")] = ""
    card: Annotated[
        str, _said("A TOML file with intended_use, limitations, licence, contact, …", "card.toml")
    ] = ""
    sampling: Annotated[
        str,
        _said(
            "A TOML file with the most that may be sampled of it on devices: features, "
            "rows_per_day, rows_max, answers; by default nothing.",
            "sampling.toml",
        ),
    ] = ""
    notes: Annotated[str, _said("What else people should know.", "trained on line 2 only")] = ""


def read_options(path: Path) -> Options:
    """Options from a TOML file; paths in it are relative to it. Raises WrongUsage."""
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{path}: not TOML: {error}") from None
    for name in ("data", "sample", "card", "features", "sampling"):
        if isinstance(stored.get(name), str) and stored[name]:
            stored[name] = str(path.parent / stored[name])
    return of(stored, str(path))


def of(given: dict[str, Any], where: str) -> Options:
    """Options of plain values, checked. Raises WrongUsage that names the key at fault."""
    plain = {key.replace("_", "-"): value for key, value in given.items()}
    try:
        return msgspec.convert(plain, Options, strict=False)
    except msgspec.ValidationError as error:
        raise WrongUsage(f"{where}: {str(error).replace('$.', '')}") from None


def settled(model: Path, said: dict[str, Any], config: Path | None = None) -> Options:
    """What is said, over what ``config`` or the muster.toml beside the model says."""
    beside = model.parent / FILE
    file = config if config is not None else beside if beside.is_file() else None
    return merged(read_options(file) if file is not None else Options(), said, "the options")


def merged(first: Options, second: dict[str, Any], where: str) -> Options:
    """``first`` with what ``second`` says instead; what is None there says nothing."""
    stored = {key.replace("-", "_"): v for key, v in msgspec.to_builtins(first).items()}
    said = {key: value for key, value in second.items() if value is not None}
    return of(stored | said, where)


def plain_name(stem: str) -> str:
    """A file's stem as the name of a model."""
    name = _UNNAMED.sub("-", stem.lower()).strip("-._")[: limits.NAME_CHARS_MAX]
    return name or "model"


@dataclass(frozen=True)
class Choice:
    """An option as help and template show it."""

    kind: type
    """What it holds: a text, a number, yes or no, a list of texts or a mapping."""
    meaning: str
    example: Any


def fields() -> dict[str, Choice]:
    """Each option in order."""
    return {
        field.name: Choice(_kind(field.type), meta.description, meta.examples[0])
        for field in msgspec.structs.fields(Options)
        for meta in field.type.__metadata__[-1:]
    }


def _kind(annotated: Any) -> type:
    """The plain type behind bounds, meanings and None."""
    kind = annotated
    while get_origin(kind) in {Annotated, Union, UnionType}:
        kind = get_args(kind)[0]
    plain: type = str if get_origin(kind) is Literal else get_origin(kind) or kind
    return plain
