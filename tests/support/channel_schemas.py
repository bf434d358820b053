"""What counterparts publish of the messages that they take, as JSON Schemas written from their
documentation; nothing that isn't named there is let through."""

from typing import Any


def thing(required: str, optional: str = "", **properties: Any) -> dict[str, Any]:
    """An object of these properties and no others."""
    names = {*required.split(), *optional.split()}
    assert names == set(properties), names ^ set(properties)
    return {"type": "object", "required": required.split(), "properties": properties,
            "additionalProperties": False}  # fmt: skip


def text(most: int = 0, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string", "minLength": 1}
    return found | ({"maxLength": most} if most else {}) | ({"enum": words} if words else {})


URI = {"type": "string", "pattern": "^https?://[^ ]+$"}
TIME = {"type": "string", "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}  # fmt: skip


def const(word: str) -> dict[str, Any]:
    return {"const": word}


_MARKED = thing("type text", "verbatim", type=const("mrkdwn"), text=text(3000),
                verbatim={"type": "boolean"})  # fmt: skip
SLACK = thing(
    "text blocks",
    text=text(40_000),
    blocks={
        "type": "array", "minItems": 1, "maxItems": 50,
        "items": {"oneOf": [
            thing("type text", type=const("header"), text=thing(
                "type text", "emoji", type=const("plain_text"), text=text(150),
                emoji={"type": "boolean"},
            )),
            thing("type text", type=const("section"), text=_MARKED),
            thing("type elements", type=const("context"),
                  elements={"type": "array", "minItems": 1, "maxItems": 10, "items": _MARKED}),
        ]},
    },
)  # fmt: skip

_RUN = thing(
    "type text", "weight size color", type=const("TextRun"), text=text(),
    weight=text(0, "Lighter", "Default", "Bolder"),
    size=text(0, "Default", "Small", "Medium", "Large", "ExtraLarge"),
    color=text(0, "Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"),
)  # fmt: skip
_CARD = thing(
    "$schema type version body", "actions msteams",
    **{
        "$schema": const("http://adaptivecards.io/schemas/adaptive-card.json"),
        "type": const("AdaptiveCard"),
        "version": text(0, "1.0", "1.1", "1.2", "1.3", "1.4", "1.5"),
        "msteams": thing("width", width=const("Full")),
        "body": {"type": "array", "minItems": 1, "items": thing(
            "type inlines", type=const("RichTextBlock"),
            inlines={"type": "array", "minItems": 1, "items": _RUN},
        )},
        "actions": {"type": "array", "maxItems": 6, "items": thing(
            "type title url", type=const("Action.OpenUrl"), title=text(), url=URI,
        )},
    },
)  # fmt: skip
TEAMS = thing(
    "type attachments",
    type=const("message"),
    attachments={"type": "array", "minItems": 1, "maxItems": 1, "items": thing(
        "contentType content", "contentUrl",
        contentType=const("application/vnd.microsoft.card.adaptive"), contentUrl={"type": "null"},
        content=_CARD,
    )},
)  # fmt: skip
TEAMS_BYTES_MAX = 28_000

PAGERDUTY = thing(
    "routing_key event_action payload", "dedup_key client client_url links",
    routing_key={"type": "string", "minLength": 32, "maxLength": 32},
    event_action=text(0, "trigger", "acknowledge", "resolve"),
    dedup_key=text(255),
    client=text(), client_url=URI,
    links={"type": "array", "items": thing("href", "text", href=URI, text=text())},
    payload=thing(
        "summary source severity", "timestamp component group class custom_details",
        **{
            "summary": text(1024), "source": text(),
            "severity": text(0, "critical", "error", "warning", "info"),
            "timestamp": TIME, "component": text(), "group": text(), "class": text(),
            "custom_details": {"type": "object"},
        },
    ),
)  # fmt: skip

NTFY = thing(
    "topic", "message title tags priority click",
    topic={"type": "string", "pattern": "^[-_A-Za-z0-9]{1,64}$"},
    message=text(), title=text(), click=URI,
    tags={"type": "array", "items": text()},
    priority={"type": "integer", "minimum": 1, "maximum": 5},
)  # fmt: skip
NTFY_MESSAGE_BYTES_MAX = 4096

_LABELS = {
    "type": "object", "additionalProperties": text(), "minProperties": 1,
    "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
}  # fmt: skip
ALERTMANAGER = {
    "type": "array",
    "items": thing(
        "labels", "annotations startsAt endsAt generatorURL", labels=_LABELS,
        annotations={"type": "object", "additionalProperties": {"type": "string"}},
        startsAt=TIME, endsAt=TIME, generatorURL={"type": "string"},
    ),
}  # fmt: skip
"""``postableAlerts`` of Alertmanager's API v2."""

_VALUE = {
    "oneOf": [
        thing("stringValue", stringValue={"type": "string"}),
        thing("intValue", intValue={"type": "string", "pattern": "^-?[0-9]+$"}),
    ]
}
_ATTRIBUTES = {"type": "array", "items": thing("key value", key=text(), value=_VALUE)}
_NANOSECONDS = {"type": "string", "pattern": "^[0-9]{10,20}$"}
_SPAN = thing(
    "traceId spanId name kind startTimeUnixNano endTimeUnixNano attributes",
    "parentSpanId status",
    traceId={"type": "string", "pattern": "^(?!0+$)[0-9a-f]{32}$"},
    spanId={"type": "string", "pattern": "^(?!0+$)[0-9a-f]{16}$"},
    parentSpanId={"type": "string", "pattern": "^(?!0+$)[0-9a-f]{16}$"},
    name=text(), kind={"enum": [1, 2, 3, 4, 5]}, attributes=_ATTRIBUTES,
    startTimeUnixNano=_NANOSECONDS, endTimeUnixNano=_NANOSECONDS,
    status=thing("code", "message", code={"enum": [0, 1, 2]}, message={"type": "string"}),
)  # fmt: skip
_SCOPE = thing("name version", name=text(), version=text())
OTLP = thing("resourceSpans", resourceSpans={"type": "array", "minItems": 1, "items": thing(
    "resource scopeSpans",
    resource=thing("attributes", attributes=_ATTRIBUTES),
    scopeSpans={"type": "array", "minItems": 1, "items": thing(
        "scope spans", scope=_SCOPE, spans={"type": "array", "minItems": 1, "items": _SPAN},
    )},
)})  # fmt: skip
"""``ExportTraceServiceRequest`` in OTLP's JSON."""
