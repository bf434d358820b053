"""The first contact of a device: the CA, the factory root, tokens and enrolment."""

from typing import Annotated

from fastapi import APIRouter, Response

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks, open_to
from muster_hub.api.once import OnceRoute
from muster_hub.api.problems import answers
from muster_hub.api.schemas.enrol import (
    BrokerView,
    EnrolAnswer,
    EnrolAsk,
    RenewAsk,
    TokenAnswer,
    TokenAsk,
)
from muster_hub.audit import log
from muster_hub.identity import enrolment
from muster_hub.storage.models import Device

router = APIRouter(tags=["enrolment"], route_class=OnceRoute)
PEM = "application/x-pem-file"


@router.get(
    "/ca",
    response_class=Response,
    responses={200: {"content": {PEM: {}}}},
    dependencies=[open_to("anybody")],
)
def ca(hub: HubDep) -> Response:
    """The hub's CA certificate. A device checks it by the fingerprint in its token."""
    return Response(hub.pki.ca_pem, media_type=PEM)


@router.get(
    "/root", response_class=Response, responses=answers(409), dependencies=[open_to("anybody")]
)
def root(hub: HubDep) -> Response:
    """The catalogue's first root. A device believes it only by a hash it has from elsewhere."""
    return Response(hub.catalogue.factory_root(), media_type="application/json")


@router.post(
    "/enroll",
    responses=answers(403, 409, 413, 422),
    dependencies=[open_to("who has an enrolment token")],
)
def enroll(hub: HubDep, ask: EnrolAsk) -> EnrolAnswer:
    """Exchange a token and a certificate request for a certificate.

    The same key may ask again until the token expires and gets the same certificate.
    """
    with hub.store.write() as session:
        enrolled = enrolment.enrol(
            session, hub.pki, ask.token, ask.csr_pem, ask.facts, hub.clock(), labels=ask.labels
        )
    hub.changed()
    host, port = hub.config.broker_public
    return EnrolAnswer(
        device=enrolled.device,
        certificate_pem=enrolled.certificate_pem,
        ca_pem=hub.pki.ca_pem.decode(),
        broker=BrokerView(host=host, port=port),
    )


@router.post(
    "/renew",
    responses=answers(403, 404, 409, 413, 422),
    dependencies=[open_to("who has the key of a certificate")],
)
def renew(hub: HubDep, ask: RenewAsk) -> EnrolAnswer:
    """Exchange a certificate of this hub, even an expired one, for a new one.

    For devices that the broker no longer lets in. The signature, by the old certificate's key,
    proves who asks.
    """
    with hub.store.write() as session:
        renewed = enrolment.renew_by_proof(
            session, hub.pki, ask.certificate_pem, ask.csr_pem, ask.signature, hub.clock()
        )
    hub.changed()
    host, port = hub.config.broker_public
    return EnrolAnswer(
        device=renewed.device,
        certificate_pem=renewed.certificate_pem,
        ca_pem=hub.pki.ca_pem.decode(),
        broker=BrokerView(host=host, port=port),
    )


@router.post("/enroll-tokens", status_code=201, responses=answers(401, 403, 422))
def make_token(
    hub: HubDep, leave: Annotated[Leave, asks("enrol-token.make")], ask: TokenAsk
) -> TokenAnswer:
    """Make an enrolment token. Its text carries the CA's fingerprint and is shown once."""
    leave.labels("a device with these labels", ask.labels)
    now = hub.clock()
    with hub.store.write() as session:
        if ask.device is not None and session.get(Device, ask.device) is not None:
            leave.device(session, ask.device, whole=True)
        token = enrolment.make_token(
            session,
            hub.pki.ca_fingerprint,
            labels=ask.labels,
            uses=ask.uses,
            expires_seconds=ask.expires_seconds,
            device=ask.device,
            approval=ask.approval,
            selector=str(leave.actor.scope.selector),
            now=now,
        )
        log.append(
            session,
            actor=leave.actor.label,
            action="enrol-token.make",
            subject=token.partition(".")[0],
            now=now,
            labels=ask.labels,
            uses=ask.uses,
            device=ask.device,
            approval=ask.approval,
        )
    return TokenAnswer(token=token, expires=now + ask.expires_seconds)
