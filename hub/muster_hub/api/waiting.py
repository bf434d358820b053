"""What waits, and for whom: of devices, rollouts, versions and signatures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_hub.access.leave import Leave
from muster_hub.access.scope import Scope
from muster_hub.api.hub import Hub
from muster_hub.fleet.overview import Glimpse
from muster_hub.rollouts.plan import read_plan, stages
from muster_hub.storage.models import Rollout, Version

WAITS_MAX = 50
KINDS_MAX = 8


@dataclass(frozen=True)
class Wait:
    """``who`` has to act, on ``what``; ``link`` leads there, from the console's root."""

    who: str
    what: str
    link: str = ""
    count: int = 0


def of_devices(devices: Sequence[Glimpse]) -> list[Wait]:
    """What the devices say that they wait for, the commonest first, and who must be let in."""
    found = Counter(_kind(item.waiting_for) for item in devices if item.standing == "waiting")
    waits = [
        Wait("devices", what, "?state=waiting", count)
        for what, count in found.most_common(KINDS_MAX)
    ]
    new = sum(1 for item in devices if item.standing == "awaiting_approval")
    if new:
        waits.append(Wait("an operator", "to approve new devices", "?state=awaiting_approval", new))
    return waits


def _kind(text: str) -> str:
    """Of what a device waits for without its details: ``permit: the budget of line=2 …``."""
    return text.split(":", maxsplit=1)[0].split("(", maxsplit=1)[0].strip()[:80]


def read(session: Session, scope: Scope) -> list[Wait]:
    """Rollouts and versions that wait for people; two statements."""
    waits = []
    rollouts = session.exec(
        select(Rollout)
        .where(col(Rollout.state).in_(("running", "paused")))
        .order_by(col(Rollout.id).desc())
        .limit(WAITS_MAX)
    )
    for row in rollouts:
        if not (scope.has_model(row.model) and scope.covers(row.selector)):
            continue
        plan = stages(read_plan(row.plan))
        name, link = f"rollout {row.id}: {row.model} {row.version}", f"rollouts/{row.id}"
        if row.state == "paused":
            waits.append(Wait("an operator", f"to resume {name}", link))
        elif row.wave < len(plan) and plan[row.wave].approve and row.approved < row.wave:
            waits.append(Wait("an operator", f"to approve wave {row.wave + 1} of {name}", link))
    versions = session.exec(
        select(Version.model, Version.version)
        .where(col(Version.status) == "awaiting_approval")
        .limit(WAITS_MAX)
    )
    waits += [
        Wait("a releaser", f"to approve {model} {version}", f"models/{model}/{version}")
        for model, version in versions
        if scope.has_model(model)
    ]
    return waits


def of_signers(hub: Hub, leave: Leave) -> list[Wait]:
    """Roles of the catalogue whose signatures are lacking."""
    names = hub.keyring.names()
    return [
        Wait(
            " or ".join(names.get(key) or key[:12] for key in group.unsigned) or "a release key",
            f"to sign {role} {group.version} ({len(group.signed)} of {group.threshold} signed)",
            "trust",
        )
        for role, groups in hub.catalogue.waiting().items()
        if leave.sees_role(role)
        for group in groups
        if len(group.signed) < group.threshold
    ]
