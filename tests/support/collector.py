"""What a collector of traces would make of what a hub sends it."""

import json
from typing import Any

import jsonschema_rs

from support import channel_schemas
from support.web import Web


def spans(web: Web) -> list[dict[str, Any]]:
    """All that the receiver was sent, as the published schema has it; each with its service."""
    found = []
    for path, headers, body in tuple(web.got):
        assert (path, headers["Content-Type"]) == ("/hook/v1/traces", "application/json")
        sent = json.loads(body)
        jsonschema_rs.validate(channel_schemas.OTLP, sent)
        for resource in sent["resourceSpans"]:
            (service,) = [
                item["value"]["stringValue"] for item in resource["resource"]["attributes"]
                if item["key"] == "service.name"
            ]  # fmt: skip
            for scope in resource["scopeSpans"]:
                found += [span | {"service": service} for span in scope["spans"]]
    return found
