"""What a request may hold has bounds, too: in the document, and at every door."""

import errno
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from muster_hub.api.app import create_app
from muster_hub.storage import faults
from muster_hub.storage.disk import Room
from muster_protocol.wire.limits import MIB
from support.hub_kit import API, is_problem, open_kit
from support.schema import DIRTY


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("hub"))
    yield made
    made.close()


def schemas(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number that a request may hold, with where it stands."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", ()):
                yield from numbers(document, parameter["schema"], f"{where} {parameter['name']}")
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from numbers(document, content["schema"], where)


def numbers(document, schema, where, depth=0) -> Iterator[tuple[str, dict[str, Any]]]:
    if depth > 8:
        return
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
    if schema.get("type") in ("integer", "number"):
        yield where, schema
    for name, item in schema.get("properties", {}).items():
        yield from numbers(document, item, f"{where}.{name}", depth + 1)
    for part in ("anyOf", "allOf", "oneOf"):
        for item in schema.get(part, ()):
            yield from numbers(document, item, where, depth + 1)
    if isinstance(schema.get("items"), dict):
        yield from numbers(document, schema["items"], f"{where}[]", depth + 1)


def test_every_number_of_a_request_has_bounds_in_the_document(kit):
    document = kit.http.get(f"{API}/openapi.json").json()
    found = list(schemas(document))
    assert len(found) > 20
    most = ("maximum", "exclusiveMaximum")
    least = ("minimum", "exclusiveMinimum")
    assert [
        where
        for where, schema in found
        if not (any(name in schema for name in most) and any(name in schema for name in least))
    ] == []


@pytest.mark.parametrize("dirty", [text for text in DIRTY if text != "\r\n"])
def test_no_body_path_or_query_holds_what_steers_a_terminal(kit, dirty):
    headers = kit.as_("admin")
    asked = {"name": f"a{dirty}", "role": "viewer"}
    is_problem(kit.http.post(f"{API}/tokens", json=asked, headers=headers), 422, "invalid")
    for where in (f"{API}/devices/%00", f"{API}/devices/a%1b%5b2J", f"{API}/devices?cursor=%00"):
        is_problem(kit.http.get(where, headers=headers), 422, "invalid")


NOT_NUMBERS = ('{"labels":{},"uses":NaN}', '{"uses":1e400}', '{"uses":99999999999999999999}')


@pytest.mark.parametrize("body", NOT_NUMBERS)
def test_no_body_holds_a_number_that_is_none(kit, body):
    headers = kit.as_("admin") | {"Content-Type": "application/json"}
    answer = kit.http.post(f"{API}/enroll-tokens", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text


def test_lone_surrogates_are_no_text(kit):
    body = json.dumps({"token": "\ud800", "csr_pem": "x"})
    answer = kit.http.post(
        f"{API}/enroll", content=body, headers={"Content-Type": "application/json"}
    )
    is_problem(answer, 422, "invalid")


def test_a_push_that_the_disk_has_no_room_for_is_refused_and_says_so(kit):
    kit.hub.room = lambda: Room(10 * MIB, 100_000 * MIB)
    files = [("manifest", b"{}"), ("files", ("model.onnx", bytes(200_000)))]
    client = TestClient(create_app(kit.hub))
    answer = client.post(f"{API}/models/digits/versions", files=files, headers=kit.as_("releaser"))
    said = is_problem(answer, 507, "no_space")
    assert "10 MiB of 100000 MiB are free" in said
    health = client.get(f"{API}/health").json()
    assert health["status"] == "degraded"
    assert health["parts"]["disk"]["state"] == "full"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_a_busy_database(number):
    assert faults.disk_is_full(OSError(number, "no room"))
    assert not faults.disk_is_full(OSError(errno.EACCES, "no"))
