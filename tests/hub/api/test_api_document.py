"""The API's reference is what the API says of itself."""

from pathlib import Path

from muster_hub.admin.document import markdown, openapi

REFERENCE = Path(__file__).parents[3] / "docs" / "api.md"


def test_the_reference_is_current():
    written = REFERENCE.read_text(encoding="utf-8")
    assert written == markdown(openapi()), (
        "run: .venv/bin/python -m muster_hub.admin.document > docs/api.md"
    )


def test_every_route_says_what_it_does_and_every_body_has_an_example():
    document = openapi()
    page = markdown(document)
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert f"### `{method.upper()} {path.removeprefix('/api/v1')}`" in page
            assert route.get("description"), (method, path)
