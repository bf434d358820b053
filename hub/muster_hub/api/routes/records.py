"""A device's record for an auditor."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.problems import answers
from muster_hub.audit import log, record
from muster_hub.signing import records
from muster_protocol.wire import limits

router = APIRouter(tags=["audit"], route_class=OnceRoute)
JSON_LINES = "application/jsonl"
Moment = Annotated[float, Query(ge=0, le=limits.SECONDS_MAX, examples=[1767225600.0])]


@router.get(
    "/devices/{device}/record",
    response_class=Response,
    responses=answers(401, 403, 404) | {200: {"content": {JSON_LINES: {}}}},
)
def device_record(
    hub: HubDep,
    leave: Annotated[Leave, asks("record.read")],
    device: str,
    since: Moment,
    until: Moment,
) -> Response:
    """What ran on a device when, from which data, on whose approval, until when; signed.

    JSON Lines of several kinds; the last line is the signature, which `muster-hub record-verify`
    checks. The audit log says who asked for it.
    """
    now, by = hub.clock(), leave.actor.label
    with hub.store.read() as session:
        row = leave.device(session, device, whole=True)
        found = record.lines(session, row, since, until, hub=hub.config.url, by=by, now=now)
    data = records.sealed(found, hub.catalogue.director())
    with hub.store.write() as session:
        log.append(
            session, actor=by, action="record.read", subject=device, now=now, since=since,
            until=until, lines=len(found),
        )  # fmt: skip
    return Response(data, media_type=JSON_LINES)
