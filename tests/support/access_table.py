"""What the matrix of access asks, and whom it expects to be let in: the words of its table, and the
part of it that is the console's pages."""

from dataclasses import dataclass
from typing import Any

SITES = {"cam-in": "berlin", "cam-out": "oslo"}
PAGE = "page:"
ROLES = ("viewer", "operator", "releaser", "admin")


@dataclass(frozen=True)
class Target:
    """What a request is about: a device, a model, and rows of those."""

    device: str
    model: str
    number: int
    """Of its rollout, assignment, alert and silence."""

    @property
    def site(self) -> str:
        return SITES[self.device]


ALL, OPERATORS, RELEASERS, ADMINS = (
    frozenset(ROLES),
    frozenset({"operator", "admin"}),
    frozenset({"releaser", "admin"}),
    frozenset({"admin"}),
)
WORKERS = frozenset({"operator", "releaser", "admin"})  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How a route is asked, of whom it answers, and which sides of its object scopes go by:
    ``d`` the device, ``m`` the model, ``D`` the whole device with every model, ``H`` the hub."""

    roles: frozenset[str]
    sides: str = ""
    path: str = ""
    body: dict[str, Any] | None = None
    form: bool = False
    fields: dict[str, str] | None = None
    """Of a page's form."""


def release(target: Target) -> dict[str, Any]:
    return {"model": target.model, "version": "1", "selector": f"site={target.site},x=1"}


def pages(target: Target) -> dict[str, Case]:
    """Those of the console, their paths marked: they lie outside of the API's prefix."""
    device, rollout = f"{PAGE}/devices/{target.device}", f"{PAGE}/rollouts/{target.number}"
    model, loop = f"{PAGE}/models/{target.model}", f"{PAGE}/loops/{target.number}"
    return {
        f"GET {PAGE}/": Case(ALL), f"GET {PAGE}/live": Case(ALL),
        f"GET {PAGE}/devices/{{device}}": Case(ALL, "d", device),
        f"GET {PAGE}/devices/{{device}}/{{action}}": Case(ALL, "d", f"{device}/revoke"),
        **{
            f"POST {PAGE}/devices/{{device}}/{act}": Case(
                OPERATORS, "dD", f"{device}/{act}", fields={}
            )
            for act in ("approve", "diagnose", "retry", "revoke")
        },
        f"GET {PAGE}/feeds": Case(ALL),
        f"GET {PAGE}/devices/{{device}}/feeds/{{feed}}": Case(ALL, "dD", f"{device}/feeds/press"),
        f"POST {PAGE}/devices/{{device}}/feeds": Case(
            OPERATORS, "dD", f"{device}/feeds", fields={}
        ),
        f"POST {PAGE}/devices/{{device}}/feeds/{{feed}}": Case(
            OPERATORS, "dD", f"{device}/feeds/press", fields={}
        ),
        f"GET {PAGE}/delivery": Case(ALL, "H"), f"GET {PAGE}/bulk": Case(ALL),
        **{
            f"POST {PAGE}/bulk/{act}": Case(
                OPERATORS, "dm" if act == "rebaseline" else "dD",
                fields={"q": f"site={target.site}", "key": "x", "model": target.model},
            )
            for act in ("label", "approve", "retry", "rebaseline", "revoke")
        },
        f"GET {PAGE}/docs": Case(ALL), f"GET {PAGE}/drift": Case(ALL),
        f"GET {PAGE}/drift/{{model}}/{{device}}/{{feature:path}}": Case(
            ALL, "dm", f"{PAGE}/drift/{target.model}/{target.device}/x"
        ),
        f"POST {PAGE}/drift/{{model}}/{{device}}/rebaseline": Case(
            OPERATORS, "dm", f"{PAGE}/drift/{target.model}/{target.device}/rebaseline", fields={}
        ),
        f"GET {PAGE}/rollouts": Case(ALL),
        f"GET {PAGE}/rollouts/new": Case(OPERATORS),
        f"POST {PAGE}/rollouts/new": Case(OPERATORS, "m", fields=release(target)),
        f"POST {PAGE}/rollouts": Case(OPERATORS, "m", fields=release(target)),
        f"GET {PAGE}/rollouts/{{rollout}}": Case(ALL, "dm", rollout),
        f"GET {PAGE}/rollouts/{{rollout}}/{{action}}": Case(OPERATORS, "dm", f"{rollout}/abort"),
        f"POST {PAGE}/rollouts/{{rollout}}/{{action}}": Case(
            OPERATORS, "dm", f"{rollout}/pause", fields={"tag": "other"}
        ),
        f"GET {PAGE}/inbox": Case(ALL),
        f"POST {PAGE}/inbox/{{action}}": Case(
            OPERATORS, "dm", f"{PAGE}/inbox/acknowledge", fields={"alert": str(target.number)}
        ),
        f"POST {PAGE}/silences": Case(OPERATORS, "dD", fields={"selector": f"site={target.site}"}),
        f"POST {PAGE}/silences/{{silence}}/end": Case(
            OPERATORS, "dD", f"{PAGE}/silences/{target.number}/end", fields={}
        ),
        f"GET {PAGE}/loops": Case(ALL),
        f"POST {PAGE}/loops": Case(WORKERS, "m", fields={"model": target.model, "reason": "worn"}),
        f"GET {PAGE}/loops/{{loop}}": Case(ALL, "m", loop),
        f"POST {PAGE}/loops/{{loop}}/approve": Case(WORKERS, "m", f"{loop}/approve", fields={}),
        f"GET {PAGE}/loops/{{loop}}/abandon": Case(WORKERS, "m", f"{loop}/abandon"),
        f"POST {PAGE}/loops/{{loop}}/abandon": Case(
            WORKERS, "m", f"{loop}/abandon", fields={"reason": "the sensor"}
        ),
        f"GET {PAGE}/models": Case(ALL),
        f"GET {PAGE}/models/{{model}}": Case(ALL, "m", f"{model}?left=1&right=1"),
        f"GET {PAGE}/models/{{model}}/{{version}}": Case(ALL, "m", f"{model}/1"),
        f"POST {PAGE}/models/{{model}}/{{version}}/approve": Case(
            RELEASERS, "m", f"{model}/1/approve", fields={}
        ),
        f"GET {PAGE}/audit": Case(ADMINS), f"GET {PAGE}/audit/verify": Case(ADMINS),
        f"GET {PAGE}/trust": Case(ALL),
        f"GET {PAGE}/trust/requests/{{role}}": Case(RELEASERS, path=f"{PAGE}/trust/requests/none"),
        f"POST {PAGE}/trust/signatures": Case(RELEASERS, form=True),
    }  # fmt: skip
