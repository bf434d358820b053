"""Sign a new directive for every device whose desired state changed, in the engine's transaction.

The generation rises only when the content changes; renewing one that would expire keeps it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import bindparam
from sqlmodel import Session, col, select, update

from muster_hub.fleet import retrying
from muster_hub.fleet.assignments import (
    AssignedRelease,
    Challenge,
    Choice,
    Override,
    Release,
    choose,
)
from muster_hub.fleet.known import Known
from muster_hub.monitoring import drift_step
from muster_hub.rollouts import load
from muster_hub.storage import models
from muster_hub.storage.care import Care
from muster_hub.storage.tables import target
from muster_protocol.wire import directive as wire
from muster_protocol.wire import topics
from muster_protocol.wire.directive import Directive, Drift, Goal, Sampling, Slot, Source

RENEW_SHARE = 0.5
"""A directive is signed anew when this much of its validity has passed."""

LEAP_MAX = 10_000
"""How far above its own a hub follows a generation that a device claims to hold."""

DRIFT = "drift"
"""The field of a slot that says how drift is judged, as ``understands`` names it."""

_REACHED = models.RolloutDevice
_ASKED = (col(_REACHED.generation) == 0, col(_REACHED.state) == "targeted")
_UNNOTED = select(_REACHED.device).where(*_ASKED)
"""Devices of which some rollout doesn't know yet the generation that first asked them."""
_NOTE = (
    update(target(_REACHED))
    .where(col(_REACHED.device) == bindparam("of"), *_ASKED)
    .values(generation=bindparam("asked"))
)


_Asked = TypeVar("_Asked", AssignedRelease, Override, Challenge)


class SignsDirectives(Protocol):
    """The director's key, wherever it lies."""

    @property
    def keyid(self) -> str:
        """Of the key that signs now."""
        ...

    def sign(self, wanted: Directive) -> bytes:
        """The envelope as JSON; raises LimitError when a device would refuse its size."""
        ...


@dataclass(frozen=True, kw_only=True)
class DirectiveTerms:
    """What every directive says besides its slots."""

    window_seconds: float
    valid_seconds: int
    chunks_url: str
    token: Callable[[str, int], str]
    """A device's capability to fetch chunks by HTTP until a time in seconds since 1970."""
    keep_crash_input: bool = False
    drift: Callable[[str, Mapping[str, str]], Drift | UnsetType] = lambda _model, _labels: UNSET
    """How drift of a model is judged on a device with such labels."""


def step(
    session: Session,
    known: Mapping[str, Known],
    signing: SignsDirectives,
    epoch: int,
    settings: DirectiveTerms,
    now: float,
    care: Care | None = None,
) -> int:
    """Persist new directives with the messages that carry them; how many. With care a device whose
    directive can't be made keeps the one it has.
    """
    assignments = load.assignments(session)
    rolling = load.rolling(session)
    overrides, challenges = rolling.overrides, rolling.challenges
    rows = {row.device: row for row in session.exec(select(models.DirectiveRow)).all()}
    rebaselines = drift_step.rebaselines(session)
    first_tries = load.first_tries(session)
    unnoted = set(session.exec(_UNNOTED))
    keyid = signing.keyid
    noted = []
    issued = 0

    def settle(device: Known) -> None:
        nonlocal issued
        row = rows.get(device.id)
        if not device.active:
            issued += _withdraw(session, row, now)
            return
        own, watched = overrides.get(device.id, ()), challenges.get(device.id, ())
        choices = choose(device.labels, assignments, own, watched)
        kept: dict[str, Slot] = {}
        if not all(device.reads(release.format) for release in _releases(choices)):
            unread = choices.keys()
            choices = choose(
                device.labels,
                _readable(device, assignments),
                _readable(device, own),
                _readable(device, watched),
            )
            kept = _kept(row, unread - choices.keys())
        if row is None and not choices:
            return
        attempts = attempts_of(device, choices, first_tries)
        content = _content(device, choices, settings, rebaselines, attempts, kept)
        generation = _generation(row, content, device, epoch)
        same = (
            row is not None
            and (generation, epoch) == (row.generation, row.epoch)
            and _signed_by(row.envelope) == keyid
        )
        if not (
            same and row is not None and now < row.issued + RENEW_SHARE * settings.valid_seconds
        ):
            _issue(session, row, content, epoch, generation, signing, settings, now)
            issued += 1
        if device.id in overrides and device.id in unnoted:
            noted.append({"of": device.id, "asked": generation})

    (care or Care()).each(
        session, known.values(), settle, lambda device: f"the directive of {device.id}"
    )
    if noted:
        session.flush()
        session.connection().execute(_NOTE, noted)
    return issued


def _releases(choices: Mapping[str, Choice]) -> Iterator[Release]:
    for choice in choices.values():
        yield choice.release
        if choice.challenger is not None:
            yield choice.challenger


def _readable(device: Known, asked: Iterable[_Asked]) -> list[_Asked]:
    """Without what the device's agent can't read: it would refuse that, and may hold the next."""
    return [each for each in asked if device.reads(each.release.format)]


def _kept(row: models.DirectiveRow | None, slots: AbstractSet[str]) -> dict[str, Slot]:
    """What these slots were asked to hold before: nothing else is there that the agent can read."""
    if row is None or not slots:
        return {}
    held = wire.decode(row.payload).slots
    return {name: held[name] for name in sorted(slots) if name in held}


class _Signature(msgspec.Struct):
    keyid: str


class _Signed(msgspec.Struct):
    signatures: list[_Signature]


def _signed_by(envelope: bytes) -> str:
    """The key that signed an envelope of ours: when it was rotated, devices need another."""
    return msgspec.json.decode(envelope, type=_Signed).signatures[0].keyid


def _content(
    device: Known,
    choices: Mapping[str, Choice],
    settings: DirectiveTerms,
    rebaselines: Mapping[tuple[str, str], int],
    attempts: Mapping[str, str],
    kept: dict[str, Slot],
) -> Directive:
    """The directive without what changes by itself: generation, times and tokens."""
    windows = [
        choice.window_seconds for choice in choices.values() if choice.window_seconds is not None
    ]
    return Directive(
        device=device.id,
        epoch=1,
        generation=1,
        issued=0,
        expires=0,
        slots={
            slot: _slot(
                choice,
                rebaselines.get((device.id, choice.release.manifest)),
                _drift(settings, choice.release.model, device),
                attempts.get(slot),
            )
            for slot, choice in sorted(choices.items())
        }
        | kept,
        window_seconds=min(windows, default=settings.window_seconds),
        sampling=Sampling(keep_crash_input=settings.keep_crash_input),
        sources=(Source(url=settings.chunks_url),) if choices else (),
    )


def _drift(settings: DirectiveTerms, model: str, device: Known) -> Drift | UnsetType:
    """Only for an agent that knows the field: others would refuse the whole directive, and judge
    by the usual settings, as the hub then does for them."""
    return settings.drift(model, device.labels) if DRIFT in device.understands else UNSET


def attempts_of(
    device: Known, choices: Mapping[str, Choice], first_tries: Mapping[tuple[str, str], int]
) -> dict[str, str]:
    """Slot → name of the try at what it should hold, where there has been another one.

    A rollout of a version that an earlier one brought is a fresh try, and so is what an operator
    asks for. An agent that doesn't know the field would refuse the whole directive: it isn't told.
    """
    if retrying.FIELD not in device.understands:
        return {}
    attempts = {}
    for slot, choice in choices.items():
        retries = device.retries.get(slot, 0)
        first = first_tries.get((slot, choice.release.manifest))
        rollout = choice.rollout if choice.rollout != first else None
        if rollout or retries:
            attempts[slot] = f"{rollout or 0}.{retries}"
    return attempts


def _slot(
    choice: Choice, rebaselines: int | None, drift: Drift | UnsetType, attempt: str | None
) -> Slot:
    return Slot(
        champion=_goal(choice.release),
        challenger=_goal(choice.challenger) if choice.challenger is not None else None,
        swap="grant" if choice.asks_permit else "free",
        drift=drift,
        rebaselines=rebaselines or UNSET,
        attempt=attempt or UNSET,
    )


def _goal(release: Release) -> Goal:
    return Goal(
        model=release.model,
        version=release.version,
        manifest=release.manifest,
        manifest_bytes=release.manifest_bytes,
    )


def _digest(content: Directive) -> str:
    return hashlib.sha256(wire.encode(content)).hexdigest()


def _generation(
    row: models.DirectiveRow | None, content: Directive, device: Known, epoch: int
) -> int:
    """The same one for the same content, else one more than the hub or the device has seen.

    A device may have seen more than the hub knows: while it was revoked its row was forgotten. It
    refuses what is older than that, so then the same content is told under a higher one.
    """
    own = row.generation if row is not None and row.epoch == epoch else 0
    report = device.report or {}
    reported = int(report.get("generation", 0)) if report.get("epoch") == epoch else 0
    if reported > own + LEAP_MAX:
        reported = 0  # A claim, and no hub has given so many: it is shown as a doubt, not followed.
    same = row is not None and row.content_sha256 == _digest(content)
    return own if own and same and own >= reported else max(own, reported) + 1


def _issue(
    session: Session,
    row: models.DirectiveRow | None,
    content: Directive,
    epoch: int,
    generation: int,
    signing: SignsDirectives,
    settings: DirectiveTerms,
    now: float,
) -> None:
    expires = int(now) + settings.valid_seconds
    sources = tuple(
        Source(url=source.url, token=settings.token(content.device, expires))
        for source in content.sources
    )
    wanted = msgspec.structs.replace(
        content,
        epoch=epoch,
        generation=generation,
        issued=int(now),
        expires=expires,
        sources=sources,
    )
    envelope = signing.sign(wanted)
    fields: dict[str, Any] = {
        "epoch": epoch,
        "generation": generation,
        "content_sha256": _digest(content),
        "payload": wire.encode(wanted),
        "envelope": envelope,
        "issued": float(wanted.issued),
        "expires": float(expires),
    }
    if row is None:
        session.add(models.DirectiveRow(device=content.device, **fields))
    else:
        session.add(row.sqlmodel_update(fields))
    session.add(
        models.OutboxMessage(
            topic=topics.down(content.device, "directive"),
            payload=envelope,
            retain=True,
            created=now,
        )
    )


def _withdraw(session: Session, row: models.DirectiveRow | None, now: float) -> int:
    """Take back what a revoked device was told; it keeps what it runs."""
    if row is None:
        return 0
    session.delete(row)
    topic = topics.down(row.device, "directive")
    session.add(models.OutboxMessage(topic=topic, payload=b"", retain=True, created=now))
    return 1
