"""What Airflow 2 and 3 have in common: a DAG run by our own name, asked for by REST."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from muster_hub.loop.decide import RunState
from muster_hub.loop.pipelines import rest
from muster_hub.loop.pipelines.base import Order, Run
from muster_hub.settings.loop import LoopTerms

STATES: Mapping[str, RunState] = {
    "queued": "running", "running": "running", "restarting": "running", "deferred": "running",
    "success": "succeeded", "failed": "failed",
}  # fmt: skip


@dataclass(frozen=True)
class Airflow:
    """One server's REST API. ``headers`` say who asks."""

    terms: LoopTerms
    api: str
    """``/api/v1`` or ``/api/v2``."""
    headers: Mapping[str, str]
    page: str
    """Where people see a run: with ``{dag}`` and ``{run}``."""

    def start(self, order: Order, more: Mapping[str, Any]) -> Run:
        """Make the run, or find it where an earlier attempt did."""
        body = {"dag_run_id": order.key, "conf": order.body, **more}
        answer = rest.ask("POST", f"{self._runs}", self.headers, body)
        if answer.status_code == httpx.codes.CONFLICT:
            return self.look(order.key)
        return self._run(answer, order.key)

    def look(self, run: str) -> Run:
        """How a run stands."""
        return self._run(rest.ask("GET", f"{self._runs}/{quote(run)}", self.headers), run)

    @property
    def _runs(self) -> str:
        return f"{self.terms.url.rstrip('/')}{self.api}/dags/{quote(self.terms.dag)}/dagRuns"

    def _run(self, answer: httpx.Response, run: str) -> Run:
        state = str(rest.checked(answer, "Airflow").get("state", ""))
        page = self.page.format(dag=quote(self.terms.dag), run=quote(run))
        return Run(run, STATES.get(state, "running"), f"{self.terms.url.rstrip('/')}{page}")


def lacks(terms: LoopTerms) -> str:
    """What must still be set, in words; empty: nothing."""
    if not terms.dag:
        return "needs a `dag`"
    return "" if terms.secret_file else "needs a `secret_file` with a token, or a user's password"
