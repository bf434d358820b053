"""One trace by real processes: from a rollout's start to what an agent reports of each step."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.ground import Ground
from support.collector import spans
from support.web import Web, serving

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(400)]
ON_THE_HUB = {"rollout start", "directive publish", "report received"}
ON_THE_DEVICE = {
    "device update", "device fetching", "device verifying", "device starting", "device probation",
}  # fmt: skip


def test_one_trace_spans_a_rollout_from_its_start_to_the_report_of_a_real_agent(tmp_path: Path):
    web = Web()
    with ExitStack() as stack:
        stack.enter_context(serving(web.server))
        ground = Ground(tmp_path, 1, 5, stack, **{"traces.endpoint": web.url})
        ground.release(tmp_path / "first")
        ground.wait(
            "every step has a span",
            lambda: {span["name"] for span in spans(web)} >= ON_THE_HUB | ON_THE_DEVICE,
        )
    found = spans(web)
    assert len({span["traceId"] for span in found}) == 1, "a trace for each rollout"
    (root,) = [span for span in found if "parentSpanId" not in span]
    assert root["name"] == "rollout start"
    ids = [span["spanId"] for span in found]
    assert len(ids) == len(set(ids))
    assert {span["parentSpanId"] for span in found if span is not root} <= set(ids)
    services = {
        service: {span["name"] for span in found if span["service"] == service}
        for service in ("muster-hub", "muster-agent")
    }
    assert services["muster-agent"] >= ON_THE_DEVICE
    ended = {span["name"]: int(span["endTimeUnixNano"]) for span in found}
    assert ended["rollout start"] <= ended["directive publish"] <= ended["report received"]
