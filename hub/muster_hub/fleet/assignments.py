"""Which model version a device should have in each slot, and why. Assignments hold for devices
that join later; of several that match, the one with the highest precedence number wins. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from muster_hub.errors import Invalid
from muster_protocol.wire import agent_release
from muster_protocol.wire.selectors import Selector


@dataclass(frozen=True, kw_only=True)
class Release:
    """A model version by name and by the hash of its manifest."""

    model: str
    version: str
    manifest: str
    manifest_bytes: int
    needs: frozenset[str] = frozenset()
    """What came after the first formats, which an agent must say that it ``understands``."""


def slot_of(model: str, slot: str) -> str:
    """Where a model is asked for: releases of the agent have a place of their own. Raises Invalid
    for another model there.
    """
    if model == agent_release.NAME:
        return agent_release.NAME
    if slot == agent_release.NAME:
        raise Invalid(f"slot {slot} is the agent itself: choose another slot for a model")
    return slot


@dataclass(frozen=True, kw_only=True)
class AssignedRelease:
    """An assignment with its selector parsed: which devices should run what in a slot."""

    id: int
    slot: str
    selector: Selector
    release: Release
    precedence: int
    window_seconds: float | None = None
    rollout: int | None = None
    """The one that made it."""
    asks_permit: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a slot of a device should hold; ``reason`` says why in words."""

    release: Release
    window_seconds: float | None
    reason: str
    rollout: int | None = None
    """The one that asks for it now, or that made the assignment."""
    asks_permit: bool = False
    """The device must ask before it swaps: a budget or a maintenance window binds it."""
    challenger: Release | None = None
    """What is watched beside it."""


@dataclass(frozen=True, kw_only=True)
class Override:
    """A rollout in progress has targeted this device: its release goes before assignments."""

    rollout: int
    slot: str
    release: Release
    window_seconds: float | None = None
    asks_permit: bool = False


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """A rollout has this device watch its release beside what the slot runs."""

    rollout: int
    slot: str
    release: Release


def choose(
    labels: Mapping[str, str],
    assignments: Iterable[AssignedRelease],
    overrides: Iterable[Override] = (),
    challenges: Iterable[Challenge] = (),
) -> dict[str, Choice]:
    """Slot → choice for a device with these labels."""
    matching: dict[str, list[AssignedRelease]] = {}
    for assignment in assignments:
        if assignment.selector.matches(labels):
            matching.setdefault(assignment.slot, []).append(assignment)
    choices = {slot: _highest(found) for slot, found in matching.items()}
    for override in sorted(overrides, key=lambda override: override.rollout):
        choices[override.slot] = Choice(
            release=override.release,
            window_seconds=override.window_seconds,
            reason=f"rollout {override.rollout} has reached this device",
            rollout=override.rollout,
            asks_permit=override.asks_permit,
        )
    for challenge in sorted(challenges, key=lambda challenge: challenge.rollout):
        choice = choices.get(challenge.slot)
        if choice is not None and choice.release.manifest != challenge.release.manifest:
            choices[challenge.slot] = replace(choice, challenger=challenge.release)
    return choices


def _highest(found: list[AssignedRelease]) -> Choice:
    ranked = sorted(found, key=lambda assignment: assignment.precedence, reverse=True)
    best = ranked[0]
    reason = f"assignment {best.id} ({str(best.selector) or 'every device'})"
    if len(ranked) > 1:
        others = ", ".join(str(assignment.id) for assignment in ranked[1:])
        reason += f" has the highest precedence, {best.precedence}, before {others}"
    return Choice(
        release=best.release,
        window_seconds=best.window_seconds,
        reason=reason,
        rollout=best.rollout,
        asks_permit=best.asks_permit,
    )
