"""Lists as tables for spreadsheets: all pages in one, stable columns, and no cell a formula."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.api.app import PREFIX, create_app
from muster_hub.api.csv import FORMULAS, cell, text
from muster_hub.api.pages import PAGE_MAX
from muster_hub.console.door import LISTS
from muster_hub.storage import models
from support.console_kit import add_devices, signed_in
from support.hub_kit import Kit, open_kit

MANY = PAGE_MAX + 20
FORMULA = '=HYPERLINK("http://evil.example")'


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("csv"))
    add_devices(made, [f"cam-{number:04}" for number in range(MANY)])
    add_devices(made, [FORMULA], labels={"site": "-1+1"})
    yield made
    made.close()


def rows(answer) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


def test_all_pages_of_a_list_follow_each_other_in_one_table(kit: Kit) -> None:
    answer = kit.http.get(f"{PREFIX}/devices?format=csv", headers=kit.as_("viewer"))
    assert answer.headers["content-disposition"] == 'attachment; filename="devices.csv"'
    found = [row["id"] for row in rows(answer)]
    assert len(found) == len(set(found)) == MANY + 1
    few = kit.http.get(f"{PREFIX}/devices?format=csv&limit=7", headers=kit.as_("viewer"))
    assert len(rows(few)) == 7


def test_the_header_of_accept_asks_for_it_as_well_and_a_selector_narrows_it(kit: Kit) -> None:
    headers = kit.as_("viewer") | {"Accept": "text/csv"}
    answer = kit.http.get(f"{PREFIX}/devices", params={"selector": "line=0"}, headers=headers)
    assert 0 < len(rows(answer)) < MANY
    assert kit.http.get(f"{PREFIX}/devices", headers=kit.as_("viewer")).json()["items"]


def test_a_table_without_rows_has_its_columns(kit: Kit) -> None:
    answer = kit.http.get(f"{PREFIX}/alerts?format=csv", headers=kit.as_("viewer"))
    assert rows(answer) == []
    assert answer.text.startswith("id,key,device,kind,severity,state,opened,")


def test_what_a_device_calls_itself_is_no_formula(kit: Kit) -> None:
    answer = kit.http.get(f"{PREFIX}/devices?format=csv", headers=kit.as_("viewer"))
    (found,) = [row for row in rows(answer) if "HYPERLINK" in row["id"]]
    assert found["id"] == f"'{FORMULA}"
    assert found["labels"] == '{"site":"-1+1"}'


@given(st.text() | st.integers() | st.floats(allow_nan=False) | st.none() | st.booleans()
       | st.lists(st.text()) | st.dictionaries(st.text(), st.integers()))  # fmt: skip
def test_no_value_becomes_a_formula_and_every_row_is_one(value: object) -> None:
    made = cell(value)
    if not isinstance(made, int | float):
        assert not made.startswith(FORMULAS)
    (read,) = csv.reader(io.StringIO(text([[value, "x"]]).decode(), newline=""))
    assert len(read) == 2


def test_what_is_no_list_is_answered_as_it_is(kit: Kit) -> None:
    for path in ("/devices/cam-0001", "/whoami", "/health"):
        answer = kit.http.get(f"{PREFIX}{path}?format=csv", headers=kit.as_("viewer"))
        assert answer.headers["content-type"] == "application/json"
    answer = kit.http.get(f"{PREFIX}/devices/none?format=csv", headers=kit.as_("viewer"))
    assert answer.headers["content-type"] == "application/problem+json"
    assert kit.http.get(f"{PREFIX}/devices?format=csv").status_code == 401


def test_a_stream_of_events_goes_on_as_a_stream(kit: Kit) -> None:
    headers = kit.as_("viewer") | {"Accept": "text/csv"}
    with kit.http.stream("GET", f"{PREFIX}/events/stream", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("name", sorted(LISTS))
def test_who_is_signed_in_downloads_each_list_and_no_other_path(kit: Kit, name: str) -> None:
    answer = signed_in(kit).get(f"/csv/{name}")
    assert answer.headers["content-type"].startswith("text/csv"), answer.text
    assert answer.headers["content-security-policy"]


def test_the_console_s_tables_are_lists_alone_read_alone_and_within_one_s_scope(kit: Kit) -> None:
    client = signed_in(kit, "viewer", "eve")
    for path in ("/csv/devices/cam-0001", "/csv/events/stream", "/csv/../tokens", "/csv/"):
        assert client.get(path).status_code == 404
    assert client.post("/csv/devices").status_code in (404, 405)
    assert client.get("/csv/audit").status_code == 403
    scoped = signed_in(kit, "viewer", "sam", selector="line=1")
    found = rows(scoped.get("/csv/devices"))
    assert {row["labels"] for row in found} == {
        '{"site":"berlin","line":"1"}', '{"site":"oslo","line":"1"}'
    }  # fmt: skip


def test_every_list_of_the_api_s_top_is_offered_as_a_table(kit: Kit) -> None:
    document = create_app(kit.hub).openapi()
    lists = set()
    for path, methods in document["paths"].items():
        name = path.removeprefix(f"{PREFIX}/")
        schema = (methods.get("get", {}).get("responses", {}).get("200", {})
                  .get("content", {}).get("application/json", {}).get("schema", {}))  # fmt: skip
        shown = schema.get("$ref", "")
        if "/" not in name and (schema.get("type") == "array" or "Page_" in shown):
            lists.add(name)
    assert lists <= LISTS, lists - LISTS


def test_a_deleted_device_in_the_middle_of_a_table_skips_nobody_else(kit: Kit) -> None:
    """Pages go by the last key: rows that come or go meanwhile move no other row."""
    with kit.hub.store.write() as session:
        session.delete(session.get(models.DirectiveRow, "cam-0003"))
        session.flush()
        session.delete(session.get(models.Device, "cam-0003"))
    answer = kit.http.get(f"{PREFIX}/devices?format=csv", headers=kit.as_("viewer"))
    assert len(rows(answer)) == MANY
