"""What Prometheus scrapes: ``GET /metrics``, outside the API's prefix because it looks there."""

from ipaddress import ip_address, ip_network

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from muster_hub.access.leave import Leave
from muster_hub.api.auth import Credentials, HubDep, IssuerDep, authenticate, declare
from muster_hub.api.once import OnceRoute
from muster_hub.api.problems import answers

router = APIRouter(tags=["system"], route_class=OnceRoute)


def may_scrape(request: Request, hub: HubDep, issuer: IssuerDep, credentials: Credentials) -> None:
    """A token of any role that is limited to nothing, or an address within ``[http]
    metrics_networks``; else 401 or 403: the numbers are the whole fleet's."""
    client = request.client.host if request.client is not None else ""
    if not _within(client, hub.config.http.metrics_networks):
        request.state.actor = authenticate(hub, issuer, credentials)
        Leave(request.state.actor, "metrics.read").on_hub()


declare(may_scrape, "metrics.read")


def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in ip_network(network, strict=False) for network in networks)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=answers(401, 403),
    dependencies=[Depends(may_scrape)],
)
def metrics(request: Request) -> PlainTextResponse:
    """The hub's metrics in Prometheus' text format; read from the database at most every 10 s."""
    return PlainTextResponse(request.app.state.scrape.text(), media_type=CONTENT_TYPE_LATEST)
