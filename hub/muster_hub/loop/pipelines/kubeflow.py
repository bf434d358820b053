"""Kubeflow Pipelines 2: a run of a pipeline by its REST API v2beta1, with a token or without."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from muster_hub.loop.decide import RunState
from muster_hub.loop.pipelines import rest
from muster_hub.loop.pipelines.base import Order, PipelineFault, Run
from muster_hub.settings.loop import LoopTerms

STATES: Mapping[str, RunState] = {
    "RUNTIME_STATE_UNSPECIFIED": "running", "PENDING": "running", "RUNNING": "running",
    "PAUSED": "running", "CANCELING": "running", "SUCCEEDED": "succeeded",
    "SKIPPED": "succeeded", "FAILED": "failed", "CANCELED": "failed",
}  # fmt: skip
PARAMETER = "order"
"""The pipeline's one parameter, a dictionary: a run with one that it doesn't declare may fail."""


class KubeflowPipeline:
    """``dag`` is the pipeline's ID; the newest of its versions runs."""

    asks = True

    def lacks(self, terms: LoopTerms) -> str:
        return "" if terms.dag else "needs a `dag`, the pipeline's ID"

    def start(self, terms: LoopTerms, secret: str, order: Order) -> Run:
        return _Server(terms, secret).start(order)

    def look(self, terms: LoopTerms, secret: str, run: str) -> Run:
        return _Server(terms, secret).look(run)


PIPELINE = KubeflowPipeline()


@dataclass(frozen=True)
class _Server:
    """One installation's API."""

    terms: LoopTerms
    secret: str

    def start(self, order: Order) -> Run:
        """Make the run, unless one of the order's name is there: names needn't be unique."""
        if earlier := self._named(order.key):
            return earlier
        body = {
            "display_name": order.key,
            "pipeline_version_reference": {"pipeline_id": self.terms.dag},
            "runtime_config": {"parameters": {PARAMETER: order.body}},
        }
        if self.terms.experiment:
            body["experiment_id"] = self.terms.experiment
        return self._run(self._ask("POST", "", body))

    def look(self, run: str) -> Run:
        """How a run stands."""
        return self._run(self._ask("GET", f"/{quote(run, safe='')}"))

    def _named(self, name: str) -> Run | None:
        wanted = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        query = {"page_size": "1", "filter": json.dumps({"predicates": [wanted]})}
        if self.terms.experiment:
            query["experiment_id"] = self.terms.experiment
        runs = self._ask("GET", f"?{urlencode(query)}").get("runs") or []
        # A server that doesn't know the filter must not hand us somebody else's run.
        same = [run for run in runs if run.get("display_name") == name]
        return self._run(same[0]) if same else None

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        url = f"{self._base}/apis/v2beta1/runs{path}"
        return rest.checked(rest.ask(method, url, headers, body), "Kubeflow Pipelines")

    def _run(self, view: Mapping[str, Any]) -> Run:
        run = str(view.get("run_id") or "")
        if not run:
            raise PipelineFault(f"{self._base}: Kubeflow Pipelines named a run without a run_id")
        state = STATES.get(str(view.get("state", "")), "running")
        return Run(run, state, f"{self._base}/#/runs/details/{quote(run, safe='')}")

    @property
    def _base(self) -> str:
        return self.terms.url.rstrip("/")
