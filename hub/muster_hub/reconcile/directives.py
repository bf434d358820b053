"""Sign a new directive for every device whose desired state changed.

The generation rises only when the content changes; renewing one that would expire keeps it.
"""

import hashlib
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import bindparam
from sqlmodel import Session, col, select, update

from muster_hub.courtesy import COURTESY
from muster_hub.fleet import feed_settings, retrying
from muster_hub.fleet.assignments import (
    AssignedRelease,
    Challenge,
    Choice,
    Override,
    Release,
    choose,
)
from muster_hub.fleet.feed_settings import FeedSetting
from muster_hub.fleet.known import Known
from muster_hub.monitoring import drift_step
from muster_hub.reconcile import asking
from muster_hub.reconcile.generations import Generations, Held
from muster_hub.reconcile.issuing import Issue, signed_by, write
from muster_hub.reconcile.sampled import asked_otherwise, sampled
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.rollouts import load
from muster_hub.sampling import policies
from muster_hub.sampling.asked import OpenPolicy
from muster_hub.storage import models
from muster_hub.storage.care import Care
from muster_hub.storage.tables import target
from muster_protocol.wire import agent_release, trace
from muster_protocol.wire import directive as wire
from muster_protocol.wire.contact import Contact
from muster_protocol.wire.directive import Directive, Drift, Goal, Sampling, Slot, Source

RENEW_SHARE = 0.5
"""A directive is signed anew when this much of its validity has passed."""

DRIFT = "drift"
"""The field of a slot that says how drift is judged, as ``understands`` names it."""

LOOKED_MAX, ISSUED_MAX = 2_000, 250
"""Devices looked at, and directives signed, for one transaction: each is short."""
_REACHED = models.RolloutDevice
_NOTE = (
    update(target(_REACHED))
    .where(
        col(_REACHED.device) == bindparam("of"),
        col(_REACHED.generation) == 0,
        col(_REACHED.state) == "targeted",
    )
    .values(generation=bindparam("asked"))
)
"""Tell rollouts the generation that first asked a device."""
_HELD = select(
    models.DirectiveRow.device,
    models.DirectiveRow.epoch,
    models.DirectiveRow.generation,
    models.DirectiveRow.content_sha256,
    models.DirectiveRow.issued,
    models.DirectiveRow.envelope,
)  # type: ignore[call-overload]  # SQLModel types up to four columns
_REVISIONS = select(models.Device.id, models.Device.revision).where(
    col(models.Device.id).in_(bindparam("devices", expanding=True))
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


@dataclass
class Draft:
    """What one look found: directives to commit, and generations that rollouts are to know."""

    looked: list[str] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    noted: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.issues or self.noted)


@dataclass(frozen=True)
class _Terms:
    """What directives of all devices follow from, beside each device itself."""

    assignments: Sequence[AssignedRelease]
    first_tries: Mapping[tuple[str, str], int]
    rebaselines: Mapping[tuple[str, str], int]
    challenged: frozenset[tuple[int, str]]
    epoch: int
    keyid: str
    sampling: Sequence[OpenPolicy] = ()
    """The newest first."""
    contact: Contact | UnsetType = UNSET
    feeds: Sequence[FeedSetting] = ()


class Directives:
    """Which devices need another directive: those that changed, and those whose terms did.

    ``changed`` and ``review`` say what to look at; ``look`` decides and signs, in a read session;
    ``persist`` commits that in a short transaction. Only the engine that holds the lease uses it.
    """

    def __init__(self, signing: SignsDirectives, settings: DirectiveTerms) -> None:
        self._signing = signing
        self._settings = settings
        self.forget()

    def forget(self) -> None:
        """Somebody else may have written directives: look at every device anew."""
        self._held: dict[str, Held] | None = None
        self._inputs: dict[str, tuple[Any, ...]] = {}
        self._renewals: list[tuple[float, str]] = []
        self._pending: dict[str, None] = {}
        self._failed: set[str] = set()
        self._generations = Generations()
        self._terms: _Terms | None = None

    @property
    def held(self) -> Mapping[str, Held]:
        """What each device was told last."""
        return self._held or {}

    @property
    def waiting(self) -> bool:
        """Whether some device is to be looked at."""
        return bool(self._pending)

    def changed(self, devices: Iterable[str]) -> None:
        """Have these devices looked at."""
        self._pending.update(dict.fromkeys(sorted(devices)))

    def review(self, session: Session, known: Mapping[str, Known], epoch: int, now: float) -> bool:
        """Look at every device if the terms of all have changed, else at those that are due."""
        terms = _Terms(
            load.assignments(session), load.first_tries(session),
            drift_step.rebaselines(session), load.challenged(session), epoch, self._signing.keyid,
            policies.wanted(session), self._settings.contact(), feed_settings.wanted(session),
        )  # fmt: skip
        if self._held is None:
            self._read(session)
        before = self._terms
        alike = before is not None and replace(
            before,
            rebaselines=terms.rebaselines,
            challenged=terms.challenged,
            sampling=terms.sampling,
        )
        if before is None or alike != terms:
            self._inputs.clear()
            self.changed(known)
        else:
            differ = before.rebaselines.items() ^ terms.rebaselines.items()
            self.changed({device for (device, _), _ in differ})
            self.changed({device for _, device in before.challenged ^ terms.challenged})
            self.changed(asked_otherwise(known, before.sampling, terms.sampling))
        self._terms = terms
        self.changed(self._failed | self._generations.review(self._pending))
        self._failed.clear()
        share = RENEW_SHARE * self._settings.valid_seconds
        while self._renewals and now >= self._renewals[0][0] + share:
            self.changed((heapq.heappop(self._renewals)[1],))
        return True

    def look(self, session: Session, known: Mapping[str, Known], now: float, care: Care) -> Draft:
        """Decide about some of the devices that wait, and sign."""
        draft = Draft()
        listed = list(islice(self._pending, LOOKED_MAX))
        rolling = load.rolling(session, listed)

        def settle(name: str) -> None:
            if len(draft.issues) < ISSUED_MAX:
                draft.looked.append(name)
                self._settle(session, name, known, rolling, draft, now)

        care.each(
            session, listed, settle, lambda name: f"the directive of {name}",
            lambda name, _why: self._leave_out(draft, name), pure=True,
        )  # fmt: skip
        draft.left_out = dict(care.failed)
        return draft

    def persist(self, session: Session, care: Care, *, draft: Draft, now: float) -> int:
        """Commit a draft with the messages that carry it; how many. Devices that an operator has
        changed since are left until the fleet is read again, in the next step: until then they
        would be looked at as they were. ``committed`` is to be called once that is durable.
        """
        names = [issue.device for issue in draft.issues]
        revisions = dict(session.exec(_REVISIONS, params={"devices": names}).all()) if names else {}
        stale = {
            issue.device
            for issue in draft.issues
            if revisions.get(issue.device, issue.revision) != issue.revision
        }
        draft.issues = [issue for issue in draft.issues if issue.device not in stale]
        draft.noted = {name: asked for name, asked in draft.noted.items() if name not in stale}
        session.flush()
        if care.careful:
            care.each(
                session, list(draft.issues), lambda issue: write(session, [issue], now),
                lambda issue: f"the directive of {issue.device}",
                lambda issue, _why: self._leave_out(draft, issue.device),
            )  # fmt: skip
        else:
            write(session, draft.issues, now)
        noted = [
            {"of": device, "asked": generation}
            for device, generation in sorted(draft.noted.items())
        ]
        if noted:
            session.connection().execute(_NOTE, noted)
        care.failed.update(draft.left_out)
        return len(draft.issues)

    def committed(self, draft: Draft) -> Collection[str]:
        """What was persisted is durable; the devices of which rollouts are to know more."""
        assert self._held is not None
        for name in draft.looked:
            self._pending.pop(name, None)
        for issue in draft.issues:
            if issue.held is None:
                self._held.pop(issue.device, None)
            else:
                self._held[issue.device] = issue.held
                heapq.heappush(self._renewals, (issue.held.issued, issue.device))
        return draft.noted.keys()

    def _leave_out(self, draft: Draft, name: str) -> None:
        self._failed.add(name)
        self._inputs.pop(name, None)
        draft.issues = [issue for issue in draft.issues if issue.device != name]
        draft.noted.pop(name, None)

    def _read(self, session: Session) -> None:
        rows = session.connection().execute(_HELD)
        self._held = {
            row.device: Held(
                row.epoch, row.generation, row.content_sha256, row.issued, signed_by(row.envelope)
            )
            for row in rows
        }
        self._renewals = [(held.issued, device) for device, held in self._held.items()]
        heapq.heapify(self._renewals)

    def _settle(
        self, session: Session, name: str, known: Mapping[str, Known], rolling: load.Rolling,
        draft: Draft, now: float,
    ) -> None:  # fmt: skip
        assert self._held is not None
        assert self._terms is not None
        COURTESY.give_way()
        device, held = known.get(name), self._held.get(name)
        if device is None:
            self._inputs.pop(name, None)
            return
        if not device.active:
            self._inputs.pop(name, None)
            if held is not None:
                draft.issues.append(Issue(name, device.revision))
            return
        content, digest = self._content(session, device, held, rolling)
        if not digest:
            return
        epoch, keyid = self._terms.epoch, self._terms.keyid
        generation = self._generations.next(device, held, digest, epoch)
        current = (
            held is not None
            and (generation, epoch, keyid) == (held.generation, held.epoch, held.keyid)
            and now < held.issued + RENEW_SHARE * self._settings.valid_seconds
        )
        if not current:
            content = content or self._build(session, device, rolling)[0]
            draft.issues.append(self._issue(content, digest, device, generation, now))
        if name in rolling.overrides and name in rolling.unnoted:
            draft.noted[name] = generation

    def _issue(
        self, content: Directive, digest: str, device: Known, generation: int, now: float
    ) -> Issue:
        assert self._terms is not None
        expires = int(now) + self._settings.valid_seconds
        sources = tuple(
            Source(url=source.url, token=self._settings.token(device.id, expires))
            if source.url == self._settings.chunks_url
            else source  # others learn no token of the hub's
            for source in content.sources
        )
        wanted = msgspec.structs.replace(
            content, epoch=self._terms.epoch, generation=generation, issued=int(now),
            expires=expires, sources=sources,
        )  # fmt: skip
        held = Held(self._terms.epoch, generation, digest, float(wanted.issued), self._terms.keyid)
        return Issue(
            device=device.id,
            revision=device.revision,
            payload=wire.encode(wanted),
            envelope=self._signing.sign(wanted),
            held=held,
            expires=float(expires),
        )

    def _content(
        self, session: Session, device: Known, held: Held | None, rolling: load.Rolling
    ) -> tuple[Directive | None, str]:
        """What a device should be told and its digest; only the digest when that is known still,
        and neither when nothing was ever asked of it.
        """
        assert self._terms is not None
        inputs = (
            device.labels, device.retries, device.diagnoses, device.feed_watches,
            device.restarts, device.log_watches, tuple(device.understands),
            rolling.overrides.get(device.id), rolling.challenges.get(device.id),
            self._terms.rebaselines or None, tuple(each.id for each in self._terms.sampling),
        )  # fmt: skip
        if held is not None and self._inputs.get(device.id) == (held.content_sha256, inputs):
            return None, held.content_sha256
        content, choices = self._build(session, device, rolling)
        if held is None and not choices and not asking.asks(content):
            return None, ""
        digest = _digest(content)
        self._inputs[device.id] = digest, inputs
        return content, digest

    def _build(
        self, session: Session, device: Known, rolling: load.Rolling
    ) -> tuple[Directive, Mapping[str, Choice]]:
        assert self._terms is not None
        assignments = self._terms.assignments
        own = rolling.overrides.get(device.id, ())
        watched = rolling.challenges.get(device.id, ())
        choices = choose(device.labels, assignments, own, watched)
        kept: dict[str, Slot] = {}
        if not all(device.reads(release.needs) for release in _releases(choices)):
            unread = choices.keys()
            choices = choose(
                device.labels,
                _readable(device, assignments),
                _readable(device, own),
                _readable(device, watched),
            )
            kept = _kept(session, device.id, unread - choices.keys())
        attempts = attempts_of(device, choices, self._terms.first_tries)
        content = _content(device, choices, self._settings, self._terms.rebaselines, attempts, kept)
        content = asking.asked(content, device, self._terms.contact, self._terms.feeds)
        return sampled(content, device, self._terms.sampling), choices


def _releases(choices: Mapping[str, Choice]) -> Iterator[Release]:
    for choice in choices.values():
        yield choice.release
        if choice.challenger is not None:
            yield choice.challenger


def _readable(device: Known, asked: Iterable[_Asked]) -> list[_Asked]:
    """Without what the device's agent can't read: it would refuse that, and may hold the next."""
    return [each for each in asked if device.reads(each.release.needs)]


def _kept(session: Session, device: str, slots: AbstractSet[str]) -> dict[str, Slot]:
    """What these slots were asked to hold before: nothing else is there that the agent can read."""
    row = session.get(models.DirectiveRow, device) if slots else None
    if row is None:
        return {}
    held = wire.decode(row.payload).slots
    return {name: held[name] for name in sorted(slots) if name in held}


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
                settings.trace(choice.rollout) if trace.FIELD in device.understands else "",
            )
            for slot, choice in sorted(choices.items())
            if slot != agent_release.NAME
        }
        | kept,
        agent=_agent(choices.get(agent_release.NAME), attempts.get(agent_release.NAME)),
        window_seconds=min(windows, default=settings.window_seconds),
        sampling=Sampling(keep_crash_input=settings.keep_crash_input),
        sources=tuple(
            Source(url=url)
            for url in (settings.public_chunks_url, settings.chunks_url)
            if url and choices
        ),
    )


def _agent(choice: Choice | None, attempt: str | None) -> wire.WantedAgent | UnsetType:
    return UNSET if choice is None else wire.WantedAgent(_goal(choice.release), attempt or UNSET)


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
    choice: Choice,
    rebaselines: int | None,
    drift: Drift | UnsetType,
    attempt: str | None,
    traceparent: str,
) -> Slot:
    return Slot(
        champion=_goal(choice.release),
        challenger=_goal(choice.challenger) if choice.challenger is not None else None,
        swap="grant" if choice.asks_permit else "free",
        drift=drift,
        rebaselines=rebaselines or UNSET,
        attempt=attempt or UNSET,
        traceparent=traceparent or UNSET,
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
