"""The fleet at a glance: counts that choose, what waits for whom, sites, versions, devices."""

from collections import Counter
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from muster_hub.access.leave import Leave
from muster_hub.api import waiting
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.console.rendering import render
from muster_hub.fleet import overview
from muster_hub.fleet.overview import MEANINGS, STANDINGS, Glimpse, Standing
from muster_hub.monitoring import usage
from muster_protocol.wire import selectors
from muster_protocol.wire.selectors import Selector, SelectorError

router = APIRouter(route_class=OnceRoute)
ROWS = 50
SITES_MAX = 48
TEXT_CHARS_MAX = 1024
USAGE_SECONDS = 48 * 3600.0
Text = Annotated[str, Query(max_length=TEXT_CHARS_MAX)]
Chosen = Annotated[Standing | Literal[""], Query()]


@router.get("/")
def fleet(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.list")],
    q: Text = "",
    state: Chosen = "",
    by: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The devices of a selector, or whose name holds a text, by where they stand."""
    chosen, part, fault = read_search(q)
    now = hub.clock()
    with hub.store.read() as session:
        narrowed = selectors.parse(leave.narrow(str(chosen)))
        devices = overview.read(session, leave.actor.scope, narrowed, now)
        versions = usage.by_version(session, leave.actor.scope, now - USAGE_SECONDS, now)
        waits = waiting.read(session, leave.actor.scope)
    found = [item for item in devices if part in item.id]
    shown = [item for item in found if state in ("", item.standing)]
    rest = [item for item in shown if item.id > after]
    keys = sorted({key for item in found for key in item.labels})
    group = by if by in keys else "site" if "site" in keys else (keys or [""])[0]
    return render(
        request,
        "fleet.html",
        q=q,
        fault=fault,
        selector=str(chosen),
        state=state,
        by=by,
        after=after,
        total=len(found),
        shown=len(shown),
        counts=[(word, MEANINGS[word], count) for word, count in _counts(found)],
        rows=rest[:ROWS],
        following=rest[ROWS - 1].id if len(rest) > ROWS else "",
        keys=keys,
        group=group,
        sites=_sites(found, group),
        sites_max=SITES_MAX,
        waits=[*waiting.of_devices(shown), *waits, *waiting.of_signers(hub, leave)],
        versions=versions,
        running=Counter(
            (model, version) for item in found for _, model, version in item.runs
        ).most_common(12),
    )


def read_search(text: str) -> tuple[Selector, str, str]:
    """A selector or a part of a name, and what is wrong with it: whoever types is not refused."""
    text = text.strip()
    if not any(sign in text for sign in "=!,("):
        return Selector(), text, ""
    try:
        return selectors.parse(text), "", ""
    except SelectorError as error:
        return Selector(), "", str(error).split("\n", maxsplit=1)[0]


def _counts(found: list[Glimpse]) -> list[tuple[Standing, int]]:
    counted = Counter(item.standing for item in found)
    return [(word, counted[word]) for word in STANDINGS if counted[word]]


def _sites(found: list[Glimpse], key: str) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """By value of a label: how many devices, and how they stand; the largest first."""
    groups: dict[str, Counter[str]] = {}
    stands = Counter((item.labels[key], item.standing) for item in found if key in item.labels)
    for (value, word), count in stands.items():
        groups.setdefault(value, Counter())[word] = count
    ordered = sorted(groups.items(), key=lambda entry: (-entry[1].total(), entry[0]))
    return [
        (value, counts.total(), [(word, counts[word]) for word in STANDINGS if counts[word]])
        for value, counts in ordered
    ]
