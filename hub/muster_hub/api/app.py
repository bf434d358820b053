"""The FastAPI application over an opened hub."""

from importlib.metadata import version

from fastapi import FastAPI

from muster_hub.api import problems
from muster_hub.api.bodies import BodyLimit
from muster_hub.api.hub import Hub
from muster_hub.api.routes import alerts, devices, enrol, events, models, rollouts, system

PREFIX = "/api/v1"
DESCRIPTION = """\
Signed models to a fleet of devices, and the truth about them back.

Times are seconds since 1970. Errors are `application/problem+json`; programs go by their `code`.
Lists answer `{"items": […], "next": …}`; pass `next` as `cursor` for the following page.
"""


def create_app(hub: Hub) -> FastAPI:
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
    for room in (system, enrol, devices, models, rollouts, alerts, events):
        app.include_router(room.router, prefix=PREFIX, responses=problems.answers(422))
    app.add_middleware(BodyLimit, upload_bytes_max=hub.config.http.upload_bytes_max)
    problems.install(app)
    return app
