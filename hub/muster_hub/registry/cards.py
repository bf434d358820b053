"""The model card of a version: what is measured, and what people say of it. Pure.

Everything in it is signed with the version, or known to the hub that signs it; what nobody has said
is shown as such and never made up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muster_hub.registry.gates.base import Shown
from muster_protocol.wire.card import CardText

SCHEMA = "muster-model-card-1"
UNSAID = "Nobody has said."
UNEXPLAINED = "There is no report of what its answers hang on."
MEASURES = {
    "accuracy": "share of right answers that is lost",
    "mean_absolute_error": "growth of the mean absolute error",
    "output_change": "mean change of the answer; no labels tell whether for the worse",
}
"""What importance counts, by its measure."""
HEADINGS = {
    "intended_use": "Intended use",
    "out_of_scope": "Out of scope",
    "limitations": "Limitations",
    "risks": "Risks",
    "training_data": "Training data",
    "oversight": "Human oversight",
    "licence": "Licence",
    "contact": "Contact",
}
Plain = dict[str, Any]


def card(
    shown: Shown,
    *,
    status: str,
    sha256: str,
    pushed: float,
    pushed_by: str,
    gates: Sequence[Mapping[str, Any]] = (),
    aliases: Sequence[str] = (),
) -> Plain:
    """The card as plain values; texts that nobody gave are empty."""
    manifest, lineage = shown.manifest, shown.manifest.lineage
    overall = {name: value for name, value in lineage.metrics.items() if "{" not in name}
    said = shown.card or CardText()
    return {
        "schema": SCHEMA,
        "model": manifest.model,
        "version": manifest.version,
        "manifest_sha256": sha256,
        "status": status,
        "pushed": pushed,
        "pushed_by": pushed_by,
        "aliases": list(aliases),
        "said": {name: getattr(said, name) for name in HEADINGS},
        "lineage": {
            name: getattr(lineage, name)
            for name in ("source", "commit", "data", "trained_at", "notes")
        },
        "metrics": overall,
        "groups": _groups(lineage.metrics),
        "explanation": msgspec.to_builtins(shown.explanation),
        "gates": [dict(each) for each in gates],
        "inputs": [_tensor(tensor) for tensor in manifest.inputs],
        "outputs": [_tensor(tensor) for tensor in manifest.outputs],
        "classes": list(manifest.classifier.classes) if manifest.classifier else [],
        "runtimes": [build.runtime for build in manifest.builds],
        "size_bytes": sum(file.size_bytes for file in manifest.files),
        "latency_ms": max((f.get("latency_ms") or 0.0 for f in shown.builds), default=0.0),
        "watches_drift": manifest.baseline is not None,
        "fallbacks": [f"{each.name}: {each.kind}" for each in manifest.fallbacks],
    }


def _groups(metrics: Mapping[str, float]) -> Plain:
    """Column → value → metric → number."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, number in sorted(metrics.items()):
        metric, brace, rest = name.partition("{")
        column, equals, value = rest.removesuffix("}").partition("=")
        if brace and equals:
            found.setdefault(column, {}).setdefault(value, {})[metric] = number
    return found


def _tensor(tensor: Any) -> Plain:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def markdown(found: Mapping[str, Any]) -> str:
    """The card for people."""
    lines = [f"# {_plain(found['model'])} {_plain(found['version'])}", ""]
    alias = f", {', '.join(found['aliases'])}" if found["aliases"] else ""
    lines += [f"Status: {found['status']}{alias}. Manifest `{found['manifest_sha256']}`.", ""]
    for name, heading in HEADINGS.items():
        lines += [f"## {heading}", "", _text(found["said"][name]) or f"_{UNSAID}_", ""]
    lines += ["## Where it comes from", ""]
    lineage = found["lineage"]
    for name in ("source", "commit", "data", "trained_at"):
        lines.append(f"- {name.replace('_', ' ')}: {_plain(lineage[name]) or UNSAID}")
    lines.append(f"- pushed by: {_plain(found['pushed_by'])}")
    if lineage["notes"]:
        lines += ["", _text(lineage["notes"])]
    lines += ["", "## Metrics", ""]
    lines += _table(("metric", "value"), sorted(found["metrics"].items())) or [UNSAID]
    for column, groups in found["groups"].items():
        names = sorted({metric for values in groups.values() for metric in values})
        lines += ["", f"### By {_plain(column)}", ""]
        rows = [(value, *(numbers.get(n) for n in names)) for value, numbers in groups.items()]
        lines += _table((column, *names), rows)
    lines += ["", "## What its answers hang on", "", *_explained(found["explanation"])]
    lines += ["", "## Gates before release", ""]
    gates = [(each["gate"], "passed" if each["ok"] else "refused", each["says"]) for each in
             found["gates"]]  # fmt: skip
    lines += _table(("gate", "verdict", "why"), gates) or ["The model has no policy."]
    lines += ["", "## Inputs and outputs", ""]
    tensors = [
        (kind, each["name"], each["datatype"], each["shape"])
        for kind, listed in (("input", found["inputs"]), ("output", found["outputs"]))
        for each in listed
    ]
    lines += _table(("", "name", "type", "shape (-1: any)"), tensors)
    if found["classes"]:
        lines += ["", f"Classes: {', '.join(map(_plain, found['classes']))}."]
    watches = "watched on devices" if found["watches_drift"] else "not watched: no baseline"
    runtimes = ", ".join(found["runtimes"])
    lines += ["", f"Runs on {runtimes}; {found['size_bytes']} bytes; drift is {watches}.", ""]
    return "\n".join(lines)


def explained(report: Mapping[str, Any]) -> str:
    """How a report's figures came about, in a sentence or two."""
    curves = f" of class {report['of']}" if report["of"] else ""
    return (
        f"Permutation importance: {MEASURES[report['measure']]} when an input's values are "
        f"shuffled among {report['rows']} rows of the data, mean and standard deviation of "
        f"{report['repeats']} repeats. Partial dependence: the mean answer {report['output']}"
        f"{curves} when the input has a value in every row, and what four fifths of the rows lie "
        "between. Of inputs that move together neither may seem to matter."
    )


def _explained(report: Mapping[str, Any] | None) -> list[str]:
    if report is None:
        return [UNEXPLAINED]
    rows = []
    for each in report["features"]:
        ends = [each["curve"][place] for place in (0, -1)] if each["curve"] else []
        curve = " to ".join(f"{end['mean']:.4g} at {end['at']:.4g}" for end in ends)
        rows.append((each["name"], each["importance"], each["spread"], curve))
    headings = ("input", "importance", "±", "mean answer, from the curve's one end to the other")
    return [_plain(explained(report)), "", *_table(headings, rows)]


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    if not rows:
        return []
    return [
        f"| {' | '.join(map(_plain, headings))} |",
        f"|{'---|' * len(headings)}",
        *(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows),
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else _plain(str(value))


def _plain(text: str) -> str:
    """A text on one line that can't end a table's cell or begin markup."""
    flat = " ".join(text.split())
    for character in "\\`*_[]<>|#":
        flat = flat.replace(character, f"\\{character}")
    return flat


def _text(text: str) -> str:
    return "\n\n".join(_plain(part) for part in text.split("\n") if part.strip())
