"""Who may do what: API tokens, people of the identity provider, and who is asking."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from sqlmodel import col, select

from muster_hub.access import governance, links
from muster_hub.access.leave import Leave
from muster_hub.access.scope import read_scope
from muster_hub.api import etags
from muster_hub.api.auth import HubDep, asks, open_to
from muster_hub.api.etags import IfMatch
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Page, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.access import (
    ApiTokenAsk,
    ApiTokenMade,
    ApiTokenView,
    LoginView,
    PersonView,
    ScopeAsk,
    SignInLinkAsk,
    SignInLinkMade,
    WhoView,
)
from muster_hub.audit import log
from muster_hub.errors import NotFound
from muster_hub.storage.governance import Person
from muster_hub.storage.models import ApiToken

router = APIRouter(tags=["access"], route_class=OnceRoute)
TokenId = Annotated[str, Path(max_length=16, examples=["9f86d081884c7d65"])]
PersonName = Annotated[str, Path(min_length=1, max_length=255, examples=["ada@example.com"])]


@router.get("/login", dependencies=[open_to("anybody")])
def login(hub: HubDep) -> LoginView:
    """Where people log in. Needs no token."""
    oidc = hub.config.oidc
    if not oidc.issuer:
        return LoginView(issuer="", client_id="", audience="")
    return LoginView(issuer=oidc.issuer, client_id=oidc.client_id, audience=oidc.audience)


@router.get("/whoami", responses=answers(401))
def whoami(leave: Annotated[Leave, asks("whoami.read")]) -> WhoView:
    """Who the hub takes you for, and what you are limited to."""
    actor = leave.actor
    return WhoView(
        name=actor.name,
        kind=actor.kind,
        owner=actor.owner,
        role=actor.role,
        models=list(actor.scope.models),
        selector=str(actor.scope.selector),
    )


@router.get("/tokens", responses=answers(401, 403), dependencies=[asks("token.read")])
def tokens(
    hub: HubDep,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ApiTokenView]:
    """API tokens by id, those revoked or expired included; never their text."""
    with hub.store.read() as session:
        rows = session.exec(
            select(ApiToken)
            .where(ApiToken.id > (cursor or ""))
            .order_by(ApiToken.id)
            .limit(limit + 1)
        ).all()
    items = [ApiTokenView(**row.model_dump(exclude={"hash"})) for row in rows]
    return Page(**page(items, limit, lambda item: item.id))


@router.post("/tokens", status_code=201, responses=answers(401, 403))
def make_token(
    hub: HubDep, leave: Annotated[Leave, asks("token.make")], ask: ApiTokenAsk
) -> ApiTokenMade:
    """Make an API token. Its text is shown once; the hub keeps a hash."""
    now = hub.clock()
    with hub.store.write() as session:
        row, text = governance.new_token(
            session,
            ask.name,
            ask.role,
            now,
            now + ask.expires_seconds,
            models=ask.models,
            selector=ask.selector,
            by=leave.actor.label,
            owner=ask.owner,
        )
        log.append(
            session,
            actor=leave.actor.label,
            action="api-token.make",
            subject=row.name,
            now=now,
            id=row.id,
            **ask.model_dump(exclude={"name"}),
        )
    return ApiTokenMade(token=text, **row.model_dump(exclude={"hash"}))


@router.post("/tokens/{token}/revoke", responses=answers(401, 403, 404))
def revoke_token(
    hub: HubDep, leave: Annotated[Leave, asks("token.revoke")], token: TokenId
) -> ApiTokenView:
    """End a token at once and for good."""
    now = hub.clock()
    with hub.store.write() as session:
        row = governance.revoke_token(session, token, now)
        log.append(
            session,
            actor=leave.actor.label,
            action="api-token.revoke",
            subject=row.name,
            now=now,
            id=row.id,
        )
    return ApiTokenView(**row.model_dump(exclude={"hash"}))


@router.post("/sign-in-links", status_code=201, responses=answers(401, 403, 422))
def make_sign_in_link(
    hub: HubDep, leave: Annotated[Leave, asks("sign-in-link.make")], ask: SignInLinkAsk
) -> SignInLinkMade:
    """Make a link that signs somebody in to the console, once and soon. It is shown once."""
    now = hub.clock()
    with hub.store.write() as session:
        code = links.make_link(
            session, ask.name, ask.role, now, by=leave.actor.label, owner=ask.owner
        )
        log.append(
            session,
            actor=leave.actor.label,
            action="sign-in-link.make",
            subject=ask.name,
            now=now,
            role=ask.role,
            owner=ask.owner or ask.name,
        )
    return SignInLinkMade(
        url=f"{hub.config.url}/sign-in-link?code={code}", expires=now + links.LINK_SECONDS
    )


@router.get("/users", responses=answers(401, 403), dependencies=[asks("user.read")])
def users(
    hub: HubDep,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[PersonView]:
    """People by name, with the role each has here. Members of groups need no entry."""
    with hub.store.read() as session:
        rows = session.exec(
            select(Person)
            .where(Person.name > (cursor or ""))
            .order_by(col(Person.name))
            .limit(limit + 1)
        ).all()
    items = [PersonView(**row.model_dump()) for row in rows]
    return Page(**page(items, limit, lambda item: item.name))


@router.put("/users/{name}", responses=answers(401, 403, 412))
def put_user(
    hub: HubDep,
    leave: Annotated[Leave, asks("user.put")],
    name: PersonName,
    ask: ScopeAsk,
    response: Response,
    if_match: IfMatch = None,
) -> PersonView:
    """Give somebody whom the identity provider knows by this name a role here."""
    now = hub.clock()
    scope = read_scope(ask.models, ask.selector, ask.role)
    with hub.store.write() as session:
        row = session.get(Person, name)
        if row is not None:
            etags.check(if_match, _tag(row))
        row = session.merge(
            Person(
                name=name,
                role=ask.role,
                models=ask.models,
                selector=str(scope.selector),
                created=now if row is None else row.created,
                created_by=leave.actor.label,
            )
        )
        log.append(
            session,
            actor=leave.actor.label,
            action="user.put",
            subject=name,
            now=now,
            **ask.model_dump(),
        )
    response.headers["ETag"] = _tag(row)
    return PersonView(**row.model_dump())


@router.delete("/users/{name}", status_code=204, responses=answers(401, 403, 404, 412))
def delete_user(
    hub: HubDep,
    leave: Annotated[Leave, asks("user.delete")],
    name: PersonName,
    if_match: IfMatch = None,
) -> None:
    """Take somebody's role away; a group of theirs may still give one."""
    with hub.store.write() as session:
        row = session.get(Person, name)
        if row is None:
            raise NotFound(f"{name!r} has no role here")
        etags.check(if_match, _tag(row))
        session.delete(row)
        log.append(
            session, actor=leave.actor.label, action="user.delete", subject=name, now=hub.clock()
        )


def _tag(row: Person) -> str:
    return etags.tag(row.name, row.role, row.models, row.selector)
