"""API tokens, and the log of what was done."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from muster_client.answers import ApiToken, ApiTokenMade, Audit, AuditState
from muster_client.failures import OperatorError, WrongUsage
from muster_client.resources.base import Resource
from muster_client.transport import part
from muster_protocol.wire import audit

DAY_SECONDS = 86_400


class ApiTokens(Resource):
    """API tokens by their ids."""

    def make(
        self,
        name: str,
        role: str = "viewer",
        *,
        models: Iterable[str] = (),
        selector: str = "",
        days: float = 90,
        owner: str = "",
    ) -> ApiTokenMade:
        """A token, whose text comes this once; ``models`` and ``selector`` limit it.

        ``owner``: the person who holds it; empty: you.
        """
        body = {
            "name": name, "role": role, "models": list(models), "selector": selector,
            "expires_seconds": days * DAY_SECONDS, "owner": owner,
        }  # fmt: skip
        made: ApiTokenMade = self._api.post("/tokens", body)
        return made

    def list(self) -> Iterator[ApiToken]:
        """Tokens by id, those that ended included; never their text."""
        return cast("Iterator[ApiToken]", self._api.pages("/tokens"))

    def revoke(self, token: str) -> ApiToken:
        """End a token at once and for good, by its id."""
        found: ApiToken = self._api.post(f"/tokens/{part(token)}/revoke")
        return found


class AuditChecked(AuditState):
    """What the hub found, and how many archived rows nobody looked at."""

    unchecked: int


class AuditLog(Resource):
    """Who did what."""

    def list(
        self,
        limit: int | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[Audit]:
        """Rows, the oldest first; all when ``limit`` is None.

        Only of one ``actor``, such as ``token:ci``; an ``action``, or those that begin so, such as
        ``device.``; a ``subject``; from ``since`` to before ``until``, in seconds since 1970.
        """
        found = self._api.pages(
            "/audit", limit, actor=actor, action=action, subject=subject, since=since, until=until
        )
        return cast("Iterator[Audit]", found)

    def export(self, device: str, since: float, until: float) -> bytes:
        """A device's record of a time in seconds since 1970: JSON Lines, the last a signature.

        What ran when, from which data, on whose approval, until when. ``muster-hub
        record-verify`` checks the signature.
        """
        return self._api.raw(f"/devices/{part(device)}/record", since=since, until=until)

    def verify(self, archives: Iterable[str | Path] = ()) -> AuditChecked:
        """Have the hub check every row's seal, and check archives of earlier rows here.

        Raises OperatorError when a row is not what was written.
        """
        state: AuditState = self._api.get("/audit/verify")
        if not state["ok"]:
            raise OperatorError(
                f"the audit log is broken after {state['rows']} rows: {state['fault']}"
            )
        unchecked = state["archived"]
        paths = [Path(path) for path in archives]
        if paths:
            found = [_archive(path) for path in paths]
            unchecked = audit.join(found, state["archived"], state["archived_latest"])
        return {**state, "unchecked": unchecked}


def _archive(path: Path) -> audit.Archive:
    try:
        with path.open("rb") as file:
            return audit.read(str(path), file)
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
