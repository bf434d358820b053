"""Airflow 3: a token for a user's password from its auth manager, or one of its own."""

from muster_hub.loop.pipelines import airflow, rest
from muster_hub.loop.pipelines.base import Order, PipelineFault, Run
from muster_hub.settings.loop import LoopTerms


class Airflow3Pipeline:
    """A run has no logical date: it is of no schedule."""

    asks = True

    def lacks(self, terms: LoopTerms) -> str:
        return airflow.lacks(terms)

    def start(self, terms: LoopTerms, secret: str, order: Order) -> Run:
        return _server(terms, secret).start(order, {"logical_date": None})

    def look(self, terms: LoopTerms, secret: str, run: str) -> Run:
        return _server(terms, secret).look(run)


PIPELINE = Airflow3Pipeline()


def _server(terms: LoopTerms, secret: str) -> airflow.Airflow:
    token = secret
    if terms.user:
        body = {"username": terms.user, "password": secret}
        answer = rest.ask("POST", f"{terms.url.rstrip('/')}/auth/token", {}, body)
        token = str(rest.checked(answer, "Airflow").get("access_token") or "")
        if not token:
            raise PipelineFault(f"{terms.url}/auth/token gave no access_token", final=True)
    headers = {"Authorization": f"Bearer {token}"}
    return airflow.Airflow(terms, "/api/v2", headers, "/dags/{dag}/runs/{run}")
