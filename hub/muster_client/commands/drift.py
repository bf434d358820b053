"""`muster drift`: what a device sees now beside what its model was trained on."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.answers import Alert, Drift
from muster_client.commands.devices import Selector
from muster_client.session import hub
from muster_client.terminal import asking, bars, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.output import Json

app = typer.Typer(help="Drift of inputs and outputs, feature by feature.", no_args_is_help=True)

PSI_OF_NOTE = 0.1
"""From which on a shift matters, by the alert rule."""
ALARMING = {"drift", "drifting", "opened", "holding"}


@app.command("show")
def show(
    context: typer.Context,
    device: Annotated[str | None, typer.Argument(help="One device.")] = None,
    *,
    selector: Selector = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    as_json: Json = False,
) -> None:
    """Draw each feature's distribution, with the baseline above, and say whether it has drifted.

    For one DEVICE, also draw how far each feature was off in its latest windows.
    """
    views = list(hub(context).drift.show(device, selector=selector, model=model))
    if as_json:
        output.show_json(views)
        return
    if not views:
        output.show(Text("No window has been received yet.", style="dim"))
    for view in views:
        output.show(*render(view))


def render(view: Drift) -> Iterator[Any]:
    """One device and model: a heading, then two bars and the statistics of each feature."""
    yield Text.assemble(
        (f"\n{view.get('device', '')}  ", "bold"),
        f"{view.get('model', '')} {view.get('version', '')}  ",
        output.state(view.get("status")),
        (f"  {view.get('n', 0)} inferences", "dim"),
    )
    for feature in view.get("features", []):
        alarming = feature.get("status") in ALARMING
        yield Text.assemble(
            f"  {feature['name']}  ",
            output.state(feature.get("status")),
            (f"  {_statistics(feature.get('statistics') or {})}", "dim"),
        )
        chart = bars.compare(feature["p0"], feature["now"], alarming=alarming)
        for line in chart.split("\n"):
            yield Text("    ") + line
        yield from _trend(feature.get("trend") or [], alarming=alarming)


def _trend(points: list[dict[str, Any]], *, alarming: bool) -> Iterator[Text]:
    """A line of how far the feature was off over time, scaled so that a matter of note shows."""
    values = [max(point.get("psi") or 0.0, 0.0) for point in points]
    if len(values) < 2:
        return
    highest = max(*values, PSI_OF_NOTE)
    yield Text.assemble(
        ("    trend    ", "dim"),
        (f"▕{bars.bars(values, highest)}▏", "red" if alarming else "green"),
        (f"  psi, to {highest:.2g}, since {output.ago(points[0]['start'])}", "dim"),
    )


@app.command("explain")
def explain(
    context: typer.Context,
    alert: Annotated[int, typer.Argument(metavar="ALERT", help="The number of a drift alert.")],
    *,
    as_json: Json = False,
) -> None:
    """Say which features moved, how far, since when, alone or with which peers, and what to do."""
    view = hub(context).drift.explain(alert)
    if as_json:
        output.show_json(view)
        return
    output.show(*explained(view))


@app.command("rebaseline")
def rebaseline(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="One device.")],
    *,
    model: Annotated[str, typer.Option(help="The model whose inputs and outputs are normal.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Accept what a model sees on DEVICE now as normal there. Its drift alert resolves."""
    asking.confirm(
        f"what {model} sees on {device} now is normal from here on, be it right or wrong: what was "
        "calibrated there is forgotten, and its drift alert resolves",
        yes=yes,
    )
    view = hub(context).drift.rebaseline(device, model)
    if as_json:
        output.show_json(view)
        return
    forgotten = ", ".join(view["forgotten"]) or "nothing drifted"
    output.show(f"{device}: {model} {view['version']} is calibrated anew ({forgotten})")


def explained(view: Alert) -> Iterator[Any]:
    """A drift alert in words: a heading, a line or two for each feature, the cause, what to do."""
    detail = view["detail"]
    yield Text.assemble((f"{view['title']}  ", "bold"), output.state(view.get("state")))
    for name, finding in detail.get("findings", {}).items():
        yield Text(f"  {name}: {_finding(finding)}")
        yield Text(f"    {_company(finding.get('company', {}))}: {finding.get('cause')}")
    yield Text.assemble("cause: ", (str(detail.get("cause", "unknown")), "bold"))
    yield Text(view["advice"])


def _finding(finding: dict[str, Any]) -> str:
    fault = f"{finding['fault']}: " if finding.get("fault") else ""
    own = finding.get("status") == "calibrated"
    against = "the device's own past" if own else "the training data (still calibrating)"
    return (
        f"{fault}{finding.get('statistic', '')} {finding.get('direction', '')} "
        f"by {abs(finding.get('value', 0.0)):.2g} (limit {finding.get('limit', 0.0):.2g}) against "
        f"{against}, effect (corrected PSI) {finding.get('effect', 0.0):.2g}, "
        f"since {output.ago(finding.get('since'))}"
    )


def _company(company: dict[str, int]) -> str:
    return (
        f"{company.get('group_along', 0)} of {company.get('group_peers', 0)} peers of its site and "
        f"{company.get('others_along', 0)} of {company.get('others_peers', 0)} elsewhere go along"
    )


def _statistics(values: dict[str, Any]) -> str:
    wanted = ("n", "psi", "psi_corrected", "js", "ks", "w1", "p")
    values_by_name = ((name, values.get(name)) for name in wanted)
    return "  ".join(
        f"{name.replace('_', ' ')} {value:.3g}"
        for name, value in values_by_name
        if value is not None
    )
