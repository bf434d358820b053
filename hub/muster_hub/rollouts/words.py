"""What a rollout says of itself: counts and names in words. Pure."""

from collections.abc import Iterable

from muster_hub.rollouts.members import Member, StagedRollout
from muster_hub.rollouts.plan import Plan, stages

NAMED_MAX = 5
"""Devices named in a reason; the rest are counted."""


def tally(members: Iterable[Member], wave: int, asking: int = 0) -> str:
    """Counts of a wave in words; devices that are offline are counted apart."""
    counts = dict.fromkeys(("committed", "under way", "failed", "offline"), 0)
    counts["under way"] = asking
    for member in members:
        reached = member.reached
        if reached is None or reached.wave != wave:
            continue
        if reached.state in ("committed", "failed"):
            counts[reached.state] += 1
        elif reached.state != "withdrawn":
            counts["under way" if member.online else "offline"] += 1
    total = sum(counts.values())
    counted = [f"{count} {what}" for what, count in counts.items() if count and what != "committed"]
    return ", ".join([f"{counts['committed']} of {total} committed", *counted])


def completed(members: Iterable[Member]) -> str:
    """How a finished rollout ended, for people."""
    members = list(members)
    done = sum(1 for member in members if member.reached and member.reached.state == "committed")
    away = [
        member.device
        for member in members
        if (member.reached and member.reached.state in ("targeted", "in_progress"))
        or (member.matches and not member.reached)
    ]
    failed = sum(1 for member in members if member.reached and member.reached.state == "failed")
    reason = f"Completed: {done} committed"
    if failed:
        reason += f", {failed} failed"
    if away:
        reason += f"; {len(away)} not yet ({names(away)}), following by assignment"
    return reason + "."


def failed(rollout: StagedRollout, failures: list[Member], reached: int) -> str:
    """Which devices failed and why, for people."""
    failures_in_words = "; ".join(
        f"{failure.device} {failure.reached.detail}"
        for failure in failures[:NAMED_MAX]
        if failure.reached
    )
    return (
        f"Stopped in wave {wave(rollout.plan, rollout.wave)}: {len(failures)} of {reached} reached "
        f"failed, {rollout.plan.failures_allowed} allowed: {failures_in_words}."
    )


def nobody(members: Iterable[Member]) -> str:
    """Why no device can be asked, for people."""
    matching = sum(1 for member in members if member.matches)
    if not matching:
        return "no device matches the selector"
    return f"none of the {matching} matching devices is online"


def unpaired(plan: Plan, members: Iterable[Member]) -> str:
    """Why an experiment has nobody in it."""
    matching = sum(1 for member in members if member.matches)
    if matching < 2 or not plan.groups:
        return f"an experiment takes two devices or more, and {matching} match the selector"
    return f"no two matching devices are alike in {', '.join(plan.groups)}"


def names(devices: Iterable[str]) -> str:
    """A few devices by name, and how many more."""
    devices = list(devices)
    more = len(devices) - NAMED_MAX
    return ", ".join(devices[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def wave(plan: Plan, number: int) -> str:
    """A wave by number and name, for people."""
    found = stages(plan)
    return f"{number + 1} of {len(found)} ({found[number].name})"
