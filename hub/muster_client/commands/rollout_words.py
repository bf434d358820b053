"""What a rollout would do and why one did what it did, in words for people."""

import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from muster_client.answers import Rollout, RolloutPlan
from muster_client.terminal import output

NAMED_MAX = 8
"""Devices named in a line; the others are counted."""


def planned(plan: RolloutPlan) -> RenderableType:
    """A rehearsal (``RolloutPlanView`` of the API): who, in which wave, bytes and limits."""
    head = Text.assemble(
        (f"{plan['model']} {plan['version']}  ", "bold"),
        "nothing is started by this",
    )
    facts = output.facts(
        (
            ("slot", plan["slot"]),
            ("selector", plan["selector"] or "all"),
            ("devices", f"{plan['devices']}, {plan['offline']} of them offline now"),
            ("bytes for a device", f"at most {output.size(plan['bytes_each'])}"),
            ("bytes the hub sends", f"{output.size(plan['bytes_published'])}, once"),
            ("bytes over all devices", f"at most {output.size(plan['bytes_delivered'])}"),
            ("watch it in shadow", _names(plan["shadow"], len(plan["shadow"])) or "nobody"),
            ("shadow and soaking take", f"{plan['least_seconds']:.0f} s at least"),
            ("pace limited by", plan["binding"]),
            ("beware", Text("\n".join(plan["warnings"]), style="yellow") or None),
        )
    )
    waves = output.table(
        ("WAVE", "DEVICES", "OFFLINE", "SOAK", "APPROVAL", "WHO"),
        (
            (
                wave["name"],
                wave["count"],
                wave["offline"],
                f"{wave['soak_seconds']:.0f} s",
                bool(wave["approve"]),
                _names(wave["devices"], wave["count"]),
            )
            for wave in plan["waves"]
        ),
        empty="No wave: no device matches.",
    )
    parts: list[RenderableType] = [head, facts, Text(), waves]
    if plan["budgets"]:
        parts += [
            Text(),
            output.table(
                ("BUDGET", "DEVICES", "AT ONCE", "ROUNDS"),
                (
                    (budget["group"], budget["size"], budget["at_once"], budget["rounds"])
                    for budget in plan["budgets"]
                ),
                empty="",
            ),
        ]
    parts += [
        Text(f"could not swap now: {count} ({reason})") for reason, count in plan["waiting"].items()
    ]
    return Group(*parts)


def explained(view: Rollout) -> RenderableType:
    """A rollout's steps in their order, and who has or waits for a permit to swap."""
    head = Text.assemble(
        (f"rollout {view['id']}  ", "bold"),
        f"{view['model']} {view['version']}  ",
        output.state(view["state"]),
    )
    warned = [Text(f"Warning: {warning}", style="yellow") for warning in view.get("warnings", ())]
    return Group(head, Text(str(view["reason"])), *warned, Text(), *_steps(view), *_permits(view))


def _steps(view: Rollout) -> Iterator[Text]:
    for step in view["history"]:
        yield Text.assemble((f"{_clock(step['at'])}  ", "dim"), str(step["reason"]))


def _permits(view: Rollout) -> Iterator[Text]:
    for permit in view["permits"]:
        if permit["given_at"] is not None:
            standing = f"may swap since {_clock(permit['given_at'])}"
        else:
            standing = f"waits: {permit['reason'] or 'no permit given yet'}"
        yield Text(f"{permit['device']}  {standing}")


def _names(devices: list[str], count: int) -> str:
    shown = ", ".join(devices[:NAMED_MAX])
    return f"{shown} and {count - NAMED_MAX} more" if count > NAMED_MAX else shown


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
