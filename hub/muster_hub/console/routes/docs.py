"""The API's reference as a page, made of the hub's own document and of nothing from elsewhere."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from muster_hub.api.app import PREFIX
from muster_hub.api.auth import asks
from muster_hub.api.examples import example
from muster_hub.api.once import OnceRoute
from muster_hub.console.rendering import render

router = APIRouter(route_class=OnceRoute)
Plain = dict[str, Any]


@router.get("/docs", dependencies=[asks("whoami.read")])
def docs(request: Request) -> Response:
    """Every operation by its tag: what it does, what it takes, what it answers."""
    document: Plain = request.app.openapi()
    return render(
        request,
        "docs.html",
        prefix=PREFIX,
        description=document["info"]["description"].strip().split("\n\n"),
        tags=operations(document),
    )


def operations(document: Plain) -> list[tuple[str, list[Plain]]]:
    """Operations by tag, each with its parameters, and a body as an example shows it."""
    schemas: Plain = document["components"]["schemas"]
    by_tag: dict[str, list[Plain]] = {}
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            by_tag.setdefault(route["tags"][-1], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "what": route.get("description", "").strip(),
                    "parameters": route.get("parameters", []),
                    "body": _example_of(_json(route.get("requestBody", {})), schemas),
                    "command": _command(path, method, route, schemas),
                    "answers": sorted(route["responses"]),
                }
            )
    return sorted(by_tag.items())


def _command(path: str, method: str, route: Plain, schemas: Plain) -> str:
    """A line for a shell, with examples in place of what is asked for."""
    for parameter in route.get("parameters", []):
        if parameter["in"] == "path":
            value = example(parameter.get("schema", {}), schemas)
            path = path.replace(f"{{{parameter['name']}}}", str(value))
    line = f'curl -H "Authorization: Bearer $TOKEN" "$HUB{path}"'
    if method != "get":
        line = line.replace("curl", f"curl -X {method.upper()}", 1)
    if body := _example_of(_json(route.get("requestBody", {})), schemas):
        line += f" \\\n  -H 'Content-Type: application/json' -d '{body}'"
    return line


def _json(body: Plain) -> Plain:
    content: Plain = body.get("content", {}).get("application/json", {})
    found: Plain = content.get("schema", {})
    return found


def _example_of(schema: Plain, schemas: Plain) -> str:
    if not schema:
        return ""
    return msgspec.json.encode(example(schema, schemas)).decode()
