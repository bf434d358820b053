"""Links that sign somebody in once, such as to the console of a hub that has just been made.

Who can run commands on the hub's own machine makes them. A link is no token: it is good for nothing
but to be exchanged, once and soon, for a token of its own that the browser's session then holds.
"""

import secrets

from sqlmodel import Session, col, delete

from muster_hub.access.governance import check_name, make_token, role_of
from muster_hub.errors import Refused
from muster_hub.settings.roles import Role
from muster_hub.storage.governance import SignInLink
from muster_protocol.wire.chunks import sha256_hex

LINK_SECONDS = 600.0
CODE_BYTES = 32
CODE_CHARS_MAX = 100


def make_link(
    session: Session, name: str, role: Role, now: float, *, by: str = "hub", owner: str = ""
) -> str:
    """Store a new link's hash and return its code, which is shown once. Raises Invalid.

    Links that nobody used in time are forgotten meanwhile.
    """
    check_name(name)
    session.exec(delete(SignInLink).where(col(SignInLink.expires) <= now))
    code = secrets.token_urlsafe(CODE_BYTES)
    session.add(
        SignInLink(
            hash=_hash(code),
            name=name,
            role=role,
            owner=owner or name,
            created=now,
            created_by=by,
            expires=now + LINK_SECONDS,
        )
    )
    return code


def find_link(session: Session, code: str, now: float) -> SignInLink:
    """Whom a link would sign in; it stays as good as it was. Raises Refused."""
    row = session.get(SignInLink, _hash(code[:CODE_CHARS_MAX]))
    if row is None or now >= row.expires:
        raise Refused(
            "this link was used already, or is older than ten minutes: make another with "
            "`muster-hub console link`"
        )
    return row


def redeem(session: Session, code: str, now: float, valid_seconds: float) -> tuple[str, str]:
    """Use a link up: the text of its token, which ends after ``valid_seconds``, and its name.

    Raises Refused. Of several who come with one link at the same moment one gets in.
    """
    row = find_link(session, code, now)
    name, role, by, owner = row.name, role_of(row.role), row.created_by, row.owner
    taken = session.exec(delete(SignInLink).where(col(SignInLink.hash) == _hash(code)))
    if taken.rowcount != 1:
        raise Refused("somebody else has just used this link: if it wasn't you, tell an admin")
    return make_token(session, name, role, now, now + valid_seconds, by=by, owner=owner), name


def _hash(code: str) -> str:
    return sha256_hex(code.encode())
