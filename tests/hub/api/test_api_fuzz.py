"""The whole API against its own document: generated requests, good and bad, never surprise it."""

import contextlib
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.control import SkipTest
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from muster_hub.storage.models import Alert, Device, EventRow
from support.hub_kit import API, Kit, open_kit

EXAMPLES = 4
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
LEFT_OUT = {f"{API}/events/stream"}
"""Never ends; it has tests of its own."""


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Iterator[Kit]:
    made = open_kit(tmp_path_factory.mktemp("hub"))
    with made.hub.store.write() as session:
        session.add(Device(id="cam-1", labels={"site": "berlin"}, created=1))
        session.flush()
        session.add(EventRow(device="cam-1", kind="note", received=2))
        session.add(
            Alert(
                key="drift/cam-1", device="cam-1", kind="drift", severity="warning", state="open",
                opened=1, updated=1, title="cam-1 drifts",
            )
        )  # fmt: skip
    yield made
    made.close()


def operations(kit: Kit, mode: GenerationMode):
    config = SchemathesisConfig.from_dict({"generation": {"mode": mode.value}})
    document = kit.http.get(f"{API}/openapi.json").json()
    for result in schemathesis.openapi.from_dict(document, config=config).get_all_operations():
        operation = result.ok()
        if operation.path not in LEFT_OUT:
            yield operation


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_to_whatever_is_asked_is_one_that_the_document_promises(kit, mode):
    headers = kit.as_("admin")
    base = str(kit.http.base_url).rstrip("/")
    seen = 0
    with requests.Session() as session:
        for operation in operations(kit, mode):

            @settings(
                max_examples=EXAMPLES, database=None, derandomize=True, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                answer = case.call(base_url=base, headers=headers, session=session)
                case.validate_response(answer, checks=CHECKS)

            # Some take nothing that could be wrong.
            with contextlib.suppress(SkipTest):
                ask()
                seen += 1
    assert seen > 30
