"""`muster demo`: the whole product on this machine, in two minutes."""

from pathlib import Path
from typing import Annotated

import typer

from muster_client.failures import Exit, OperatorError

NEEDED = {"sklearn": "scikit-learn", "onnx": "onnx", "flatbuffers": "flatbuffers"}


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running to explore.")] = False,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where it keeps its state; emptied at the start.")
    ] = Path("build/demo"),
) -> None:
    """Run hub, broker and four agents here: roll out, drift, refuse bad releases, lose the link."""
    try:
        from muster_hub.demo.play import run  # noqa: PLC0415 - only the demo needs its extra
    except ModuleNotFoundError as error:
        name = NEEDED.get((error.name or "").partition(".")[0], error.name)
        raise OperatorError(
            f"the demo needs {name}: pip install 'muster-edge[demo]'", Exit.USAGE
        ) from None
    raise typer.Exit(run(directory, keep=keep))
