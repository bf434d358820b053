"""`muster model`: push a version, see what the hub's check found."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from muster_client.client import Api
from muster_client.commands import trust
from muster_client.failures import Exit, OperatorError
from muster_client.session import api
from muster_client.terminal import output
from muster_client.terminal.output import Json
from muster_protocol.wire import manifest
from muster_protocol.wire.errors import ProtocolError

app = typer.Typer(help="Models and their versions.", no_args_is_help=True)

POLL_SECONDS = 0.3
UNSETTLED = {"uploaded", "checking", "checked"}
MANIFEST = "manifest.json"


@app.command("push")
def push(
    context: typer.Context,
    bundle: Annotated[
        Path, typer.Argument(help="Folder with manifest.json and the files it lists.")
    ],
    *,
    wait: Annotated[bool, typer.Option(help="Wait for the hub's check.")] = True,
    wait_seconds: Annotated[float, typer.Option(min=1, help="How long at most.")] = 600.0,
    as_json: Json = False,
) -> None:
    """Upload a version. The hub loads it and runs its golden vectors before it can be signed."""
    parsed, encoded = read_manifest(bundle)
    path = f"/models/{parsed.model}/versions"
    hub = api(context)
    with ExitStack() as opened:
        files = {
            entry.path: opened.enter_context(_open(bundle / entry.path)) for entry in parsed.files
        }
        with _upload_progress(files, quiet=as_json) as sent:
            answer = hub.upload(path, encoded, sent)
    if wait:
        answer = _settle(hub, f"{path}/{parsed.version}", wait_seconds, quiet=as_json)
    if as_json:
        output.show_json(answer)
    else:
        output.show(
            *_version_lines(
                parsed.model, parsed.version, answer, _signers(hub, parsed.model, answer)
            )
        )
    if answer.get("status") == "rejected":
        raise OperatorError(f"{parsed.model} {parsed.version} was rejected: {reason(answer)}")


@app.command("list")
def list_models(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help="Only this model, version by version.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show models, or the versions of one."""
    hub = api(context)
    if model is not None:
        item = hub.get(f"/models/{model}")
        if as_json:
            output.show_json(item)
            return
        rows = (_version_row(version) for version in item.get("versions", []))
        columns = ("VERSION", "STATUS", "SIZE", "PUSHED", "BY")
        output.show(output.table(columns, rows, empty=f"{model} has no version yet."))
        return
    items = list(hub.pages("/models"))
    if as_json:
        output.show_json(items)
        return
    rows_of_models = ((item["name"], *_newest(item)) for item in items)
    headings = ("MODEL", "VERSIONS", "NEWEST", "STATUS")
    output.show(output.table(headings, rows_of_models, empty="No model has been pushed yet."))


@app.command("show")
def show_version(
    context: typer.Context, model: str, version: str, *, as_json: Json = False
) -> None:
    """Show one version: where it comes from and what its check found."""
    hub = api(context)
    item = hub.get(f"/models/{model}/versions/{version}")
    if as_json:
        output.show_json(item)
        return
    output.show(*_version_lines(model, version, item, _signers(hub, model, item)))


def read_manifest(bundle: Path) -> tuple[manifest.Manifest, bytes]:
    """A bundle folder's manifest, checked here so that nothing wrong is uploaded."""
    path = bundle / MANIFEST
    try:
        data = path.read_bytes()
        parsed = manifest.decode(data)
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}", Exit.USAGE) from None
    except ProtocolError as error:
        raise OperatorError(f"{path}: {error}", Exit.USAGE) from None
    for entry in parsed.files:
        file = bundle / entry.path
        if not file.is_file():
            raise OperatorError(f"{file}: the manifest lists it, it isn't there", Exit.USAGE)
        if file.stat().st_size != entry.size_bytes:
            raise OperatorError(
                f"{file}: {file.stat().st_size} bytes, the manifest says {entry.size_bytes}: "
                "pack the bundle again",
                Exit.USAGE,
            )
    return parsed, data


def reason(item: dict[str, Any]) -> str:
    """Why the check failed, in one line."""
    check = item.get("check") or {}
    if check.get("reason"):
        return str(check["reason"])
    builds = check.get("builds") or {}
    named = builds.items() if isinstance(builds, dict) else ((b.get("runtime"), b) for b in builds)
    faults = [f"{name}: {build.get('detail')}" for name, build in named if not build.get("ok")]
    return "; ".join(faults) or "the hub gave no reason"


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


@contextmanager
def _upload_progress(files: dict[str, BinaryIO], *, quiet: bool) -> Iterator[dict[str, BinaryIO]]:
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    screen = output.console()
    bar = Progress(
        *columns, console=screen, transient=True, disable=quiet or not screen.is_terminal
    )
    with bar:
        yield {
            name: bar.wrap_file(file, total=_length(file), description=name)
            for name, file in files.items()
        }


def _length(file: BinaryIO) -> int:
    end = file.seek(0, 2)
    file.seek(0)
    return end


def _settle(hub: Api, path: str, seconds: float, *, quiet: bool) -> dict[str, Any]:
    screen = output.console()
    until = time.monotonic() + seconds
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        console=screen,
        transient=True,
        disable=quiet or not screen.is_terminal,
    ) as bar:
        task = bar.add_task("the hub checks it", total=None)
        while True:
            item: dict[str, Any] = hub.get(path)
            if item.get("status") not in UNSETTLED:
                return item
            if time.monotonic() >= until:
                raise OperatorError(
                    f"the hub has not settled it after {seconds:g} s (status "
                    f"{item.get('status')}): look later with `muster model show`"
                )
            bar.update(task, description=f"the hub: {item.get('status')}")
            time.sleep(POLL_SECONDS)


def _signers(hub: Api, model: str, item: dict[str, Any]) -> list[tuple[str, str]]:
    waits = item.get("status") == "awaiting_signatures"
    return trust.waiting_for(hub, model) if waits else []


def _version_lines(
    model: str, version: str, item: dict[str, Any], signers: list[tuple[str, str]]
) -> Iterator[Any]:
    lineage = item.get("lineage") or {}
    check = item.get("check") or {}
    yield output.facts(
        [
            ("model", Text(f"{model} {version}", style="bold")),
            ("status", output.state(item.get("status"))),
            ("manifest", item.get("manifest_sha256")),
            ("size", output.size(item.get("size_bytes"))),
            ("pushed", output.ago(item.get("created"))),
            ("by", item.get("created_by")),
            *((name, lineage.get(name)) for name in ("source", "commit", "data", "trained_at")),
            ("metrics", lineage.get("metrics")),
            *signers,
            ("refused", reason(item) if item.get("status") == "rejected" else ""),
        ]
    )
    builds = check.get("builds") or {}
    if isinstance(builds, dict):
        builds = [{"runtime": runtime, **build} for runtime, build in builds.items()]
    if builds:
        yield ""
        yield output.table(
            ("BUILD", "CHECK", "GOLDEN", "LATENCY", "MEMORY", "DETAIL"),
            (_build_row(build) for build in builds),
            empty="",
        )


def _build_row(build: dict[str, Any]) -> tuple[Any, ...]:
    found = build.get("facts") or {}
    latency = found.get("latency_ms")
    return (
        build.get("runtime"),
        output.state("ok" if build.get("ok") else "failed"),
        found.get("golden_cases"),
        f"{latency:.2f} ms" if latency is not None else None,
        output.size(found.get("memory_bytes")),
        build.get("detail"),
    )


def _version_row(item: dict[str, Any]) -> tuple[Any, ...]:
    return (
        item["version"],
        output.state(item.get("status")),
        output.size(item.get("size_bytes")),
        output.ago(item.get("created")),
        item.get("created_by"),
    )


def _newest(item: dict[str, Any]) -> tuple[Any, ...]:
    versions = item.get("versions") or []
    if not versions:
        return 0, None, None
    newest = max(versions, key=lambda version: version.get("created") or 0)
    return len(versions), newest["version"], output.state(newest.get("status"))
