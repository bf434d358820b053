"""API tokens and people: made, found, ended. Of a token only its hash is kept."""

import secrets
from collections.abc import Sequence
from typing import get_args

from sqlmodel import Session, select

from muster_hub.access.acts import Actor
from muster_hub.access.people import NAME_CHARS_MAX as OWNER_CHARS_MAX
from muster_hub.access.people import owner_of
from muster_hub.access.scope import Scope, read_scope
from muster_hub.errors import Invalid, NotFound
from muster_hub.settings.roles import Role
from muster_hub.storage.governance import NAME_CHARS_MAX, Person
from muster_hub.storage.models import ApiToken
from muster_protocol.wire import selectors
from muster_protocol.wire.chunks import sha256_hex

TOKEN_PREFIX = "mst_"  # noqa: S105 - marks our tokens for scanners, no secret
ROLES: tuple[Role, ...] = get_args(Role)


def make_token(
    session: Session,
    name: str,
    role: Role,
    now: float,
    expires: float | None = None,
    *,
    models: Sequence[str] = (),
    selector: str = "",
    by: str = "hub",
    owner: str = "",
) -> str:
    """Store a new token's hash and return its text, which is shown once."""
    return new_token(
        session, name, role, now, expires, models=models, selector=selector, by=by, owner=owner
    )[1]


def new_token(
    session: Session,
    name: str,
    role: Role,
    now: float,
    expires: float | None,
    *,
    models: Sequence[str],
    selector: str,
    by: str,
    owner: str = "",
) -> tuple[ApiToken, str]:
    """The row of a new token and its text. Raises Invalid or SelectorError.

    ``owner`` is the person who holds it; empty: whoever ``by`` is, or, of a token that the hub
    itself makes, somebody of the token's name.
    """
    check_name(name)
    if len(owner) > OWNER_CHARS_MAX or not owner.isprintable():
        raise Invalid(f"owner: at most {OWNER_CHARS_MAX} printable characters")
    scope = read_scope(models, selector, role)
    text = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(
        hash=sha256_hex(text.encode()),
        id=secrets.token_hex(8),
        name=name,
        role=role,
        models=list(models),
        selector=str(scope.selector),
        created=now,
        created_by=by,
        owner=owner or owner_of(session, by) or name,
        expires=expires,
    )
    session.add(row)
    session.flush()
    return row, text


def check_name(name: str) -> None:
    """Raise Invalid for what a token can't be called."""
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise Invalid(f"name: 1 to {NAME_CHARS_MAX} printable characters")


def revoke_token(session: Session, identifier: str, now: float) -> ApiToken:
    """End a token at once and for good; raises NotFound."""
    row = session.exec(select(ApiToken).where(ApiToken.id == identifier)).first()
    if row is None:
        raise NotFound(f"there is no API token {identifier!r}")
    if row.revoked is None:
        row.revoked = now
    return row


def token_refusal(row: ApiToken | None, now: float) -> str | None:
    """Why a token is no good, or None."""
    if row is None:
        return "this API token isn't known here"
    if row.revoked is not None:
        return f"the API token {row.name!r} was revoked"
    if row.expires is not None and now >= row.expires:
        return f"the API token {row.name!r} has expired"
    return None


def actor_of_token(row: ApiToken) -> Actor:
    """Whoever holds an API token, with its role and scope."""
    scope = Scope(tuple(row.models), selectors.parse(row.selector))
    return Actor(row.name, role_of(row.role), scope, "token", row.owner)


def actor_of_person(row: Person) -> Actor:
    """Somebody who has signed in, with the role that an admin gave."""
    scope = Scope(tuple(row.models), selectors.parse(row.selector))
    return Actor(row.name, role_of(row.role), scope, "person", row.name)


def role_of(role: str) -> Role:
    """A role as the database has it, which holds its columns to these words."""
    return next(known for known in ROLES if known == role)
