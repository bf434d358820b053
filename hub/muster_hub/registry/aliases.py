"""Names that stand for a model's version, such as ``champion``, and what they stood for."""

import re
from collections.abc import Sequence

from sqlmodel import Session, col, func, select

from muster_hub.errors import Conflict, Invalid, NotFound
from muster_hub.storage.models import Version
from muster_hub.storage.registry import AliasChange, ModelAlias

ALIASES_MAX = 32
"""Of a model."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
HISTORY_SHOWN = 100
UNUSABLE = frozenset({"rejected", "retired"})


def current(session: Session, model: str, alias: str) -> ModelAlias | None:
    """What an alias stands for; None: nothing."""
    return session.get(ModelAlias, (model, alias))


def of_model(session: Session, model: str) -> Sequence[ModelAlias]:
    """A model's aliases by name."""
    query = select(ModelAlias).where(ModelAlias.model == model).order_by(col(ModelAlias.alias))
    return session.exec(query).all()


def history(session: Session, model: str) -> Sequence[AliasChange]:
    """What a model's aliases stood for and when, the newest first."""
    query = select(AliasChange).where(AliasChange.model == model)
    return session.exec(query.order_by(col(AliasChange.id).desc()).limit(HISTORY_SHOWN)).all()


def put(
    session: Session, model: str, alias: str, version: str, *, by: str, now: float, reason: str = ""
) -> bool:
    """Let an alias stand for a version; False when it does already. Raises NotFound, Conflict."""
    if not NAME.fullmatch(alias):
        raise Invalid(f"alias {alias[:64]!r}: write small letters, digits, - and _")
    row = session.get(Version, (model, version))
    if row is None:
        raise NotFound(f"there is no version {version!r} of a model {model!r}")
    if row.status in UNUSABLE:
        raise Conflict(f"{model} {version} is {row.status}")
    held = current(session, model, alias)
    if held is not None and held.version == version:
        return False
    if held is None:
        count = select(func.count()).select_from(ModelAlias).where(ModelAlias.model == model)
        if session.exec(count).one() >= ALIASES_MAX:
            raise Conflict(f"{model} has {ALIASES_MAX} aliases, the most it may have")
        held = ModelAlias(model=model, alias=alias, version=version, since=now, by=by)
    held.version, held.since, held.by = version, now, by
    session.add(held)
    _note(session, model, alias, version, by=by, now=now, reason=reason)
    return True


def remove(session: Session, model: str, alias: str, *, by: str, now: float) -> None:
    """Take an alias away; its history stays. Raises NotFound."""
    held = current(session, model, alias)
    if held is None:
        raise NotFound(f"{model} has no alias {alias!r}")
    session.delete(held)
    _note(session, model, alias, None, by=by, now=now, reason="")


def _note(
    session: Session, model: str, alias: str, version: str | None, *, by: str, now: float,
    reason: str,
) -> None:  # fmt: skip
    session.add(
        AliasChange(model=model, alias=alias, version=version, at=now, by=by, reason=reason)
    )
    session.flush()
