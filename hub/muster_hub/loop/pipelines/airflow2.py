"""Airflow 2: its stable REST API with a user and a password, or a token."""

import base64

from muster_hub.loop.pipelines import airflow
from muster_hub.loop.pipelines.base import Order, Run
from muster_hub.settings.loop import LoopTerms


class Airflow2Pipeline:
    """Needs ``[api] auth_backends`` with basic authentication, or a proxy that takes tokens."""

    asks = True

    def lacks(self, terms: LoopTerms) -> str:
        return airflow.lacks(terms)

    def start(self, terms: LoopTerms, secret: str, order: Order) -> Run:
        return _server(terms, secret).start(order, {})

    def look(self, terms: LoopTerms, secret: str, run: str) -> Run:
        return _server(terms, secret).look(run)


PIPELINE = Airflow2Pipeline()


def _server(terms: LoopTerms, secret: str) -> airflow.Airflow:
    if terms.user:
        pair = base64.b64encode(f"{terms.user}:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}"}
    else:
        headers = {"Authorization": f"Bearer {secret}"}
    return airflow.Airflow(terms, "/api/v1", headers, "/dags/{dag}/grid?dag_run_id={run}")
