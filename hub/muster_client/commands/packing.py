"""`muster model pack` and `init`: from a model file to a bundle. Needs no hub."""

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from muster_client.failures import WrongUsage
from muster_client.packing import calls, template
from muster_client.packing import options as chosen
from muster_client.terminal import output
from muster_client.terminal.output import Json

if TYPE_CHECKING:
    from muster_client.packing.packed import Packed

PANEL = "Packing"
PREFIX = "option_"
"""Of parameters that stand for options, whose names a command may use itself."""
_PAIRS: dict[str, Callable[[str], Any]] = {
    "columns": lambda value: value.split(","),
    "shape": lambda value: value.split(","),
    "image": str,
    "batch_axis": str,
    "state": str,
}
"""Options that are given once for each input."""
_METAVARS = {
    "columns": "INPUT=COLUMN,…",
    "shape": "INPUT=1,SIZE,…",
    "image": "INPUT=HxW",
    "batch_axis": "INPUT=NUMBER",
    "state": "INPUT=OUTPUT",
}
Explain = Annotated[bool, typer.Option("--explain", help="Say in prose what was found.")]
Config = Annotated[
    Path | None,
    typer.Option(help="A muster.toml; by default the one beside the model.", rich_help_panel=PANEL),
]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes every field of ``Options`` as an option, and gets them as ``said``."""

    @functools.wraps(command)
    def run(*arguments: Any, **given: Any) -> None:
        said = {name: given.pop(f"{PREFIX}{name}") for name in added}
        command(*arguments, said=_plain(said), **given)

    own = [
        parameter
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != "said"
    ]
    added = {name: _parameter(name, field) for name, field in chosen.fields().items()}
    whole = [*own, *added.values()]
    setattr(run, "__signature__", inspect.Signature(whole))  # noqa: B010 - mypy knows no such
    run.__annotations__ = {each.name: each.annotation for each in whole}
    return run


def _parameter(name: str, field: chosen.Choice) -> inspect.Parameter:
    own: Any = field.kind if field.kind in {bool, str, int, float} else list[str]
    meaning = field.meaning
    if name == "classes":
        own, meaning = str, f"{meaning.rstrip('.')}: A,B,…"
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=meaning,
        metavar=_METAVARS.get(name),
        rich_help_panel=PANEL,
    )
    return inspect.Parameter(
        f"{PREFIX}{name}",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[own | None, option],
    )


@with_options
def pack(
    model: Annotated[Path, typer.Argument(help="Model file: .onnx or .tflite.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The bundle's folder; NAME-VERSION.")
    ] = None,
    config: Config = None,
    explain: Explain = False,
    as_json: Json = False,
    said: dict[str, Any],
) -> None:
    """Make a bundle of a model file: tensors, golden vectors, classes and baseline are inferred.

    Rows of the data are run through the model. What was inferred, and what a person should look
    at, is printed.
    """
    show(calls.pack(model, out=out, config=config, **said), explain=explain, as_json=as_json)


@with_options
def import_model(
    uri: Annotated[str, typer.Argument(metavar="SCHEME:PLACE", help="Where the model is.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The bundle's folder; NAME-VERSION.")
    ] = None,
    config: Config = None,
    sha256: Annotated[str, typer.Option(help="Of the model's file; refuse another.")] = "",
    cache: Annotated[
        Path | None, typer.Option(help="Where downloads are kept until the bundle is made.")
    ] = None,
    explain: Explain = False,
    as_json: Json = False,
    said: dict[str, Any],
) -> None:
    """Make a bundle of a model that another tool keeps: MLflow, Hugging Face, a folder, …

    SCHEME is folder, mlflow, huggingface, triton or zoo; a wrong one lists how each is written.
    Lineage, version, sample, columns and classes are the source's, as far as it says them.
    """
    from muster_client.importers import importing  # noqa: PLC0415 - an HTTP client

    found = importing.import_model(uri, out=out, cache=cache, sha256=sha256, config=config, **said)
    show(found, explain=explain, as_json=as_json)


def init(
    model: Annotated[Path, typer.Argument(help="Model file: .onnx or .tflite.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="By default muster.toml beside the model.")
    ] = None,
) -> None:
    """Write a commented muster.toml beside a model, to keep the choices under version control."""
    file = out if out is not None else model.parent / chosen.FILE
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(template.text(model))
    except FileExistsError:
        raise WrongUsage(f"{file} is there already") from None
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
    output.show(f"{file}: `muster model pack {model}` reads it.")


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    """What flags say, as a file would."""
    plain: dict[str, Any] = {}
    for name, value in said.items():
        if value is None or value == []:
            continue
        if name in _PAIRS:
            plain[name] = {key: _PAIRS[name](text) for key, text in _pairs(name, value)}
        elif name == "classes":
            plain[name] = [each.strip() for each in value.split(",")]
        else:
            plain[name] = value
    return plain


def _pairs(flag: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        # A tensor's name may hold =, its value doesn't.
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise WrongUsage(f"--{flag} {text}: write it as {_METAVARS[flag]}")
        pairs.append((name, value))
    return pairs


def show(found: "Packed", *, explain: bool, as_json: bool) -> None:
    """Print what was packed, and what to look at."""
    from muster_client.packing.explain import explained, summary  # noqa: PLC0415 - an extra

    built = found.manifest
    if as_json:
        output.show_json(
            {
                "bundle": str(found.folder),
                "model": built.model,
                "version": built.version,
                "size_bytes": found.size_bytes,
                "rows": found.rows,
                "features": [f.name for f in found.baseline.features] if found.baseline else [],
                "classes": list(built.classifier.classes) if built.classifier else [],
                "accuracy": found.accuracy,
                "advice": [{"code": each.code, "text": each.text} for each in found.advice],
                "explained": [*explained(found)],
            }
        )
        return
    if explain:
        output.show(*(Text(f"{paragraph}\n") for paragraph in explained(found)))
    show_advice(found)
    output.show(Text(f"{found.folder}: {summary(found)}"))


def show_advice(found: "Packed") -> None:
    """Print what a person should look at."""
    output.show(*(Text(f"note: {each.text}", style="yellow") for each in found.advice))
