"""Who may do what: API tokens and people, each with a role limited to some models and devices.

A scope only ever takes away. The role ``admin`` has none: it makes tokens, and a token that can
make another one with more rights than it has itself would be no limit at all.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlmodel import Session, col, select

from muster_hub.errors import Invalid, NotFound, Refused
from muster_hub.settings.roles import Role
from muster_hub.storage.governance import NAME_CHARS_MAX, Person
from muster_hub.storage.models import ApiToken
from muster_protocol.wire import selectors
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.selectors import Part, Selector
from muster_protocol.wire.topics import check_name

TOKEN_PREFIX = "mst_"  # noqa: S105 - marks our tokens for scanners, no secret
SCOPE_MODELS_MAX = 64

EVERY_DEVICE = Selector()


@dataclass(frozen=True)
class Scope:
    """What a role is limited to; without parts it is limited to nothing."""

    models: tuple[str, ...] = ()
    selector: Selector = EVERY_DEVICE

    @property
    def everything(self) -> bool:
        return not self.models and not self.selector.parts

    def has_model(self, name: str) -> bool:
        return not self.models or any(_matches(pattern, name) for pattern in self.models)

    def has_device(self, labels: Mapping[str, str]) -> bool:
        return self.selector.matches(labels)

    def covers(self, selector: str) -> bool:
        """Whether ``selector`` can only match devices within the scope, going by its parts."""
        asked = selectors.parse(selector).parts
        return all(any(_implies(own, part) for own in asked) for part in self.selector.parts)

    def narrow(self, selector: str | None) -> str:
        """``selector`` with the scope's own parts added where it doesn't imply them already."""
        asked = selectors.parse(selector or "").parts
        missing = tuple(
            part for part in self.selector.parts if not any(_implies(own, part) for own in asked)
        )
        return str(Selector((*asked, *missing)))


EVERYTHING = Scope()


@dataclass(frozen=True)
class Actor:
    """Who asks: ``name`` of a token or a person, as the audit log has it."""

    name: str
    role: str
    scope: Scope = EVERYTHING
    kind: Literal["token", "person"] = "token"

    @property
    def label(self) -> str:
        return f"{self.kind}:{self.name}"

    def must_have_model(self, name: str) -> None:
        """Raise Refused when the model is outside the scope."""
        if not self.scope.has_model(name):
            raise Refused(f"{self.name} may not act on the model {name!r}")

    def must_have_device(self, device: str, labels: Mapping[str, str]) -> None:
        if not self.scope.has_device(labels):
            raise Refused(
                f"{self.name} may act on devices with {self.scope.selector}; {device} is not one"
            )

    def must_cover(self, selector: str, what: str) -> None:
        if not self.scope.covers(selector):
            raise Refused(
                f"{self.name} may act on devices with {self.scope.selector}; {what} reaches beyond"
            )


def must_be_another(session: Session, first: str, second: str, did: str) -> None:
    """Raise Refused when two names may be one person: who ``did`` the first half, such
    as "started rollout 3", and who asks for the second.

    Nobody agrees with themselves, be it by a token they made for it, or one made by such a token.
    """
    if first == second:
        raise Refused(f"{first} {did}: somebody else has to agree")
    for maker, token in ((first, second), (second, first)):
        if maker in _makers(session, token):
            raise Refused(
                f"{maker} made the token {token!r}, and one of them {did}: "
                "somebody else has to agree"
            )


def _makers(session: Session, token: str) -> set[str]:
    """Who ever made a token of this name, who made theirs, and so on."""
    found: set[str] = set()
    looking = {token}
    while looking:
        made = select(ApiToken.created_by).where(col(ApiToken.name).in_(looking))
        looking = {name_of(label) for label in session.exec(made)} - found
        found |= looking
    return found


def name_of(label: str) -> str:
    """The name in a label such as ``token:ci``; the hub itself has no kind."""
    return label.partition(":")[2] or label


def read_scope(models: Sequence[str], selector: str, role: str) -> Scope:
    """A scope from plain values; raises Invalid or SelectorError."""
    if len(models) > SCOPE_MODELS_MAX:
        raise Invalid(f"{len(models)} models, the limit is {SCOPE_MODELS_MAX}")
    for pattern in models:
        if pattern != "*":
            check_name(pattern.removesuffix("*"), "model")
    scope = Scope(tuple(models), selectors.parse(selector))
    if role == "admin" and not scope.everything:
        raise Invalid("an admin can't be limited to models or devices: use another role")
    return scope


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
) -> str:
    """Store a new token's hash and return its text, which is shown once."""
    return new_token(session, name, role, now, expires, models=models, selector=selector, by=by)[1]


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
) -> tuple[ApiToken, str]:
    """The row of a new token and its text. Raises Invalid or SelectorError."""
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise Invalid(f"name: 1 to {NAME_CHARS_MAX} printable characters")
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
        expires=expires,
    )
    session.add(row)
    session.flush()
    return row, text


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
    return Actor(row.name, row.role, Scope(tuple(row.models), selectors.parse(row.selector)))


def actor_of_person(row: Person) -> Actor:
    scope = Scope(tuple(row.models), selectors.parse(row.selector))
    return Actor(row.name, row.role, scope, "person")


def _matches(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


def _implies(asked: Part, wanted: Part) -> bool:
    """Whether a device for which ``asked`` holds is sure to be one for which ``wanted`` does."""
    if asked.key != wanted.key:
        return False
    have, want = set(asked.values), set(wanted.values)
    match (asked.operator, wanted.operator):
        case ("in", "in"):
            return have <= want
        case ("in", "notin"):
            return not have & want
        case ("notin", "notin"):
            return have >= want
        case ("in" | "exists", "exists") | ("absent", "absent" | "notin"):
            return True
        case _:
            return False
