"""``python -m muster_hub.admin.document``: the API's reference, written from its own document."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muster_hub.api.app import PREFIX, create_app
from muster_hub.api.examples import example, resolve
from muster_hub.api.hub import Hub
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.settings.config import BrokerSettings, Http

Plain = dict[str, Any]
HEAD = """\
# The HTTP API

Written by `python -m muster_hub.admin.document > docs/api.md` from the hub's OpenAPI document,
which a hub serves under `{prefix}/openapi.json`. All paths begin with `{prefix}`.

"""


def openapi() -> Plain:
    """The document of an empty hub: what it promises doesn't depend on what it holds."""
    with tempfile.TemporaryDirectory(prefix="muster-document-") as directory:
        settings = initialise(
            Path(directory) / "hub", NewHub(("hub.example",), Http(), BrokerSettings())
        )
        hub = Hub.open(settings, lambda: 0.0)
        try:
            return create_app(hub).openapi()
        finally:
            hub.store.close()


def markdown(document: Plain) -> str:
    """The reference: every route by its tag, with its parameters and an example of each body."""
    schemas: Plain = document["components"]["schemas"]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            section = "\n".join(_route(path.removeprefix(PREFIX), method, route, schemas))
            by_tag.setdefault(route["tags"][-1], []).append(section)
    parts = [HEAD.format(prefix=PREFIX) + document["info"]["description"].strip()]
    parts += [f"## {tag.capitalize()}\n\n" + "\n".join(by_tag[tag]) for tag in sorted(by_tag)]
    return "\n\n".join(parts).rstrip() + "\n"


def _route(path: str, method: str, route: Plain, schemas: Plain) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n"
    if route.get("description"):
        yield route["description"].strip() + "\n"
    parameters = [
        _parameter(parameter)
        for parameter in route.get("parameters", [])
        if parameter["in"] != "path"
    ]
    if parameters:
        yield "\n".join(parameters) + "\n"
    for kind, media in route.get("requestBody", {}).get("content", {}).items():
        if kind == "application/json":
            yield "Ask:\n\n```json\n" + _shown(media["schema"], schemas) + "\n```\n"
        else:
            fields = ", ".join(
                f"`{name}`" for name in resolve(media["schema"], schemas)["properties"]
            )
            yield f"Ask with `{kind}`: {fields}.\n"
    for status, answer in sorted(route["responses"].items()):
        if status.startswith("2"):
            yield from _answer(status, answer, schemas)
    refused = sorted(status for status in route["responses"] if not status.startswith("2"))
    yield f"Refused with: {', '.join(refused)}.\n"


def _parameter(item: Plain) -> str:
    description = item.get("description") or item.get("schema", {}).get("description") or ""
    must = ", required" if item.get("required") else ""
    return f"- `{item['name']}` ({item['in']}{must}) {description}".rstrip()


def _answer(status: str, answer: Plain, schemas: Plain) -> Iterator[str]:
    content = answer.get("content", {})
    if not content:
        yield f"Answer {status}, empty.\n"
    for kind, media in content.items():
        if kind == "application/json" and media.get("schema"):
            yield f"Answer {status}:\n\n```json\n" + _shown(media["schema"], schemas) + "\n```\n"
        else:
            yield f"Answer {status}: `{kind}`.\n"


def _shown(schema: Plain, schemas: Plain) -> str:
    return json.dumps(example(schema, schemas), indent=2, ensure_ascii=False)


if __name__ == "__main__":
    print(markdown(openapi()), end="")
