"""The FastAPI application over an opened hub."""

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client.core import Metric
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from muster_hub.access.oidc import Issuer
from muster_hub.api import auth, problems
from muster_hub.api.bodies import BodyLimit
from muster_hub.api.csv import AsCsv
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.api.pace import Pace
from muster_hub.api.routes import (
    access,
    agent_releases,
    alerts,
    assignments,
    chunks,
    delivery,
    device_logs,
    devices,
    enrol,
    events,
    feed_settings,
    history,
    loops,
    metrics,
    models,
    overview,
    records,
    registry,
    rollouts,
    sampling,
    scrape,
    signing,
    silences,
    sources,
    system,
    webhooks,
)
from muster_hub.api.text import CleanText
from muster_hub.audit.refusals import Refusals
from muster_hub.courtesy import Answering
from muster_hub.metrics.delivery import read as read_delivery
from muster_hub.metrics.exposition import families
from muster_hub.metrics.looping import read as read_loops
from muster_hub.metrics.reading import read
from muster_hub.metrics.scrape import Scrape, Timed

PREFIX = "/api/v1"
DESCRIPTION = """\
Signed models to a fleet of devices, and the truth about them back.

Times are seconds since 1970. Errors are `application/problem+json`; programs go by their `code`.
Lists answer `{"items": […], "next": …}`; pass `next` as `cursor` for the following page.

Each list is a table for spreadsheets as well: add `format=csv`, or send `Accept: text/csv`. Without
`limit` all its pages follow each other, up to 100,000 rows. What has parts is JSON in its cell, and
text that a spreadsheet would take for a formula begins with an apostrophe.

A change with an `Idempotency-Key` (any text of your own, once per act) may be repeated for a day:
it is done once and answered alike, with `Idempotency-Replayed: true`. Answers about one thing carry
an `ETag`; a change with `If-Match` is refused with 412 when somebody was faster. Who asks too fast
gets 429 with `Retry-After`.

A role may be limited to models and to devices by selector: what is outside isn't listed, and acts
on it are refused with 403.
"""
ROOMS = (
    system,
    chunks,
    access,
    enrol,
    devices,
    device_logs,
    feed_settings,
    models,
    registry,
    sources,
    loops,
    sampling,
    records,
    signing,
    assignments,
    agent_releases,
    metrics,
    overview,
    rollouts,
    alerts,
    silences,
    webhooks,
    events,
    history,
    delivery,
)


def create_app(
    hub: Hub,
    monotonic: Callable[[], float] = time.monotonic,
    rooms: Sequence[ModuleType] = ROOMS,
) -> FastAPI:
    """The API of a hub. Starting and stopping the hub is the caller's."""
    app = FastAPI(
        title="Muster hub",
        version=version("muster-edge"),
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.hub = hub
    app.state.streams = 0
    app.state.refusals = Refusals(hub.store, hub.clock)
    oidc = hub.config.oidc
    app.state.issuer = (
        Issuer(oidc, httpx.Client(), hub.clock, hub.oidc_secret) if oidc.issuer else None
    )
    for room in rooms:
        app.include_router(room.router, prefix=PREFIX, responses=problems.answers(400, 422, 429))
    app.include_router(scrape.router)
    app.state.scrape = Scrape(lambda: _metrics(hub), monotonic)
    auth.check_declared(app, OnceRoute)
    app.add_middleware(AsCsv)
    app.add_middleware(BodyLimit, upload_bytes_max=hub.config.http.upload_bytes_max, room=hub.room)
    app.add_middleware(CleanText)
    app.add_middleware(Answering)  # whom the pace turns away nobody gives way to
    app.add_middleware(
        Pace,
        limits=hub.config.http,
        monotonic=monotonic,
        is_good=lambda header: auth.is_good(hub, app.state.issuer, header),
    )
    app.add_middleware(Timed, scrape=app.state.scrape)
    if proxies := hub.config.http.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(proxies))
    problems.install(app)
    return app


def create_status(hub: Hub) -> FastAPI:
    """Health, audit log and metrics of a process that has no API."""
    return create_app(hub, rooms=(system,))


def _metrics(hub: Hub) -> Iterator[Metric]:
    with hub.store.read() as session:
        now = hub.clock()
        reading = read(session, now)
        delivered = read_delivery(
            session, now, joules_per_byte=hub.config.telemetry.joules_per_byte
        )
        looped = read_loops(session, hub.config.loops, now)
    return families(
        reading, delivered, looped, expiries=hub.catalogue.expiries(), parts=hub.health()
    )


def server_config(app: FastAPI, **settings: Any) -> uvicorn.Config:
    """How an application is served: who a client is, is its own to say (``http.trusted_proxies``);
    a server in front of it would believe whoever connects from the same machine."""
    return uvicorn.Config(app, proxy_headers=False, server_header=False, **settings)
