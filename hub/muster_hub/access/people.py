"""Who is somebody else: a person is one, however many tokens they have or have made."""

from sqlmodel import Session, col, select

from muster_hub.errors import Refused
from muster_hub.storage.models import ApiToken

NAME_CHARS_MAX = 255
"""Of a person: what identity providers call people by, mostly an e-mail address."""


def must_be_another(session: Session, first: str, second: str, did: str) -> None:
    """Raise Refused when one person may stand behind both labels, such as ``token:ci``: who ``did``
    the first half, such as "started rollout 3", and who asks for the second.

    Behind a token stands who holds it and who made it, for they have seen its text, and who made
    their token, and so on. Nobody agrees with themselves.
    """
    both = people_behind(session, first) & people_behind(session, second)
    if both:
        who = ", ".join(sorted(both))
        raise Refused(
            f"{name_of(first)} {did}, and {who} may stand behind {name_of(second)} too: somebody "
            "else has to agree, with a token that the hub made for them (`muster-hub token`) or "
            "by logging in"
        )


def people_behind(session: Session, label: str) -> frozenset[str]:
    """Everybody who can act as a label: of a token those who hold it or ever made one like it."""
    found: set[str] = set()
    seen: set[str] = set()
    looking = [label]
    while looking:
        label = looking.pop()
        if label in seen:
            continue
        seen.add(label)
        kind, name = _parts(label)
        if kind in ("person", ""):
            found.add(name)
        if kind in ("token", ""):
            rows = session.exec(select(ApiToken).where(col(ApiToken.name) == name)).all()
            found |= {row.owner or row.name for row in rows}
            looking += [row.created_by for row in rows]
    return frozenset(found - {"hub"})


def owner_of(session: Session, label: str) -> str:
    """The person who asks under a label; empty for the hub itself and what isn't known."""
    kind, name = _parts(label)
    if kind == "person":
        return name
    if kind != "token":
        return ""
    row = session.exec(
        select(ApiToken).where(ApiToken.name == name).order_by(col(ApiToken.created).desc())
    ).first()
    return row.owner if row is not None else ""


def name_of(label: str) -> str:
    """The name in a label such as ``token:ci``; the hub itself has no kind."""
    return _parts(label)[1]


def _parts(label: str) -> tuple[str, str]:
    """Kind and name; a bare name, as older rows have it, may be anybody's."""
    kind, colon, name = label.partition(":")
    return (kind, name) if colon and kind in ("token", "person") else ("", label)
