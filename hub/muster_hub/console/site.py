"""The hub's whole site: the API, and the console's pages over it."""

import time
from collections.abc import Callable

from fastapi import FastAPI

from muster_hub.api.app import PREFIX, create_app
from muster_hub.api.auth import check_declared
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.console.door import Door
from muster_hub.console.routes import (
    assets,
    audit,
    bulk,
    delivery,
    device,
    device_acts,
    docs,
    drift,
    feeds,
    fleet,
    inbox,
    live,
    loops,
    registry,
    rollouts,
    sign_in,
    sign_in_link,
    sign_in_oidc,
    trust,
)

PAGES = (
    assets,
    sign_in,
    sign_in_link,
    sign_in_oidc,
    live,
    fleet,
    device,
    device_acts,
    feeds,
    drift,
    docs,
    rollouts,
    loops,
    inbox,
    registry,
    audit,
    trust,
    delivery,
    bulk,
)


def create_site(hub: Hub, monotonic: Callable[[], float] = time.monotonic) -> FastAPI:
    """The application of a hub with its console. Starting and stopping the hub is the caller's."""
    app = create_app(hub, monotonic)
    for page in PAGES:
        app.include_router(page.router, include_in_schema=False)
    check_declared(app, OnceRoute)
    app.add_middleware(Door, hub=hub, api=PREFIX)
    return app
