"""`muster-hub placebo`: a rollout's gate tried on the fleet's own past."""

import time
from typing import Annotated

import typer

from muster_hub.admin.keys import DEFAULT_DATA, Data
from muster_hub.rollouts.gates import replay as placebos
from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.settings import config
from muster_hub.storage.store import Store

SEED = 1


def add_to(app: typer.Typer) -> None:
    """Add the command to ``muster-hub``."""
    app.command("placebo")(placebo)


def placebo(
    model: str,
    *,
    data: Data = DEFAULT_DATA,
    selector: Annotated[str, typer.Option(help="Which devices; empty is all.")] = "",
    canaries: Annotated[int, typer.Option(min=1, help="Devices drawn each time.")] = 20,
    hours: Annotated[
        float,
        typer.Option(
            min=1, help="How many hours of history; the later part is judged against the earlier."
        ),
    ] = 48.0,
    draws: Annotated[
        int, typer.Option(min=1, max=10_000, help="How often canaries are drawn.")
    ] = 200,
    window_seconds: Annotated[
        float | None, typer.Option(min=1, help="Telemetry window; the hub's own when not given.")
    ] = None,
    stratum: Annotated[
        list[str] | None,
        typer.Option(
            help="A label: canaries are drawn from each group alike in it. Repeat for more."
        ),
    ] = None,
) -> None:
    """Try a rollout's gate on the fleet's own past, where nothing was released."""
    settings = config.load(data)
    until = time.time()
    store = Store(settings.database_url)
    try:
        with store.read() as session:
            history = placebos.read(
                session,
                model=model,
                selector=selector,
                since=until - hours * 3600,
                until=until,
                window_seconds=window_seconds or settings.directives.window_seconds,
                strata=tuple(stratum or ()),
            )
    finally:
        store.close()
    for outcome in placebos.replay(history, GatePlan(), canaries=canaries, draws=draws, seed=SEED):
        print(outcome.words)
