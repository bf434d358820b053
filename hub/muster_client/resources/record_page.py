"""A device's record as a page that people read, made of the signed lines alone. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ccc;"
    "overflow-wrap:anywhere}th{background:#f3f3f3}"
)
Plain = Mapping[str, Any]
SECTIONS: Sequence[tuple[str, str, Sequence[tuple[str, str]]]] = (
    ("ran", "What ran, from when until when", (
        ("slot", "slot"), ("model", "model"), ("version", "version"), ("from", "from"),
        ("until", "until"), ("manifest_sha256", "manifest (SHA-256)"),
    )),
    ("version", "What it was: data, source, who pushed it", (
        ("model", "model"), ("version", "version"), ("data", "trained on"),
        ("source", "from"), ("commit", "commit"), ("pushed", "pushed"), ("pushed_by", "by"),
        ("metrics", "metrics"),
    )),
    ("rollout", "How it came to the device", (
        ("rollout", "rollout"), ("model", "model"), ("version", "version"),
        ("started", "started"), ("started_by", "by"), ("asked", "device asked"),
        ("device_state", "device"), ("state", "ended as"), ("reason", "why"),
    )),
    ("loop", "Retraining: why, who approved it, what became of it", (
        ("loop", "loop"), ("model", "model"), ("opened", "opened"), ("opened_by", "by"),
        ("cause", "cause"), ("approved_by", "approved by"), ("run", "training"),
        ("candidate", "candidate"), ("rollout", "rollout"), ("state", "ended as"),
        ("reason", "why"),
    )),
    ("sampling", "Raw data that it was asked for", (
        ("policy", "policy"), ("model", "model"), ("version", "version"), ("begun", "begun"),
        ("begun_by", "by"), ("reason", "why"), ("rows_of_device", "rows it sent"),
        ("ended", "ended"), ("ended_by", "by"),
    )),
    ("act", "Who did what: approvals, signatures, overrides", (
        ("at", "when"), ("who", "who"), ("did", "did"), ("to", "to"), ("detail", "detail"),
        ("audit_row", "audit row"),
    )),
    ("alert", "Alerts", (
        ("opened", "opened"), ("what", "cause"), ("title", "title"), ("state", "state"),
        ("updated", "last change"),
    )),
    ("used", "What it answered, by day (UTC)", (
        ("day", "day"), ("model", "model"), ("version", "version"),
        ("inferences", "inferences"), ("errors", "errors"), ("labels_right", "labels right"),
        ("labels_wrong", "wrong"),
    )),
    ("event", "Events of the device", (
        ("at", "received"), ("what", "event"), ("slot", "slot"), ("model", "model"),
        ("version", "version"), ("state", "state"), ("refusal", "refusal"),
        ("detail", "detail"),
    )),
)  # fmt: skip
MOMENTS = frozenset({
    "at", "from", "until", "pushed", "started", "asked", "opened", "updated", "begun", "ended",
})  # fmt: skip


def page(lines: Iterable[Plain]) -> str:
    """The whole page; it needs nothing else."""
    found = list(lines)
    about = next(line for line in found if line["kind"] == "about")
    title = f"Record of {about['device']}"
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{escape(_made(about))}</p>",
        f"<p>Labels: {escape(_text(about['labels']) or 'none')}.</p><ul>",
        *(f"<li>{escape(note)}</li>" for note in about["notes"]),
        "</ul>",
    ]
    for kind, heading, columns in SECTIONS:
        parts.append(f"<h2>{escape(heading)}</h2>")
        rows = [line for line in found if line["kind"] == kind]
        parts.append(_table(columns, rows) if rows else "<p>Nothing.</p>")
    return "\n".join([*parts, "</body></html>\n"])


def _made(about: Plain) -> str:
    return (
        f"From {_moment(about['since'])} to {_moment(about['until'])}. Made "
        f"{_moment(about['made'])} at {about['hub']} for {about['made_for']}. The signed lines are "
        "in the file beside this page; only they count."
    )


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[Plain]) -> str:
    head = "".join(f"<th scope=col>{escape(title)}</th>" for _, title in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(_cell(name, row))}</td>" for name, _ in columns) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(name: str, row: Plain) -> str:
    value = row.get(name)
    if name == "until" and value is None:
        return "still"
    if name == "day" and value is not None:
        return _moment(value)[:10]
    return _moment(value) if name in MOMENTS and value is not None else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_text(inner) for inner in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
