"""The one place that decides who may do what. Pure.

An ``Act`` is a name in a registry: which roles may, and on what kinds of object. An ``Object`` says
what scopes go by: which model, which labels, which selector. ``may`` looks at all of it together,
so that no question is answered by what a request says of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from muster_hub.access.scope import EVERYTHING, Scope
from muster_hub.errors import Refused
from muster_hub.settings.roles import Role

Kind = Literal["hub", "listing", "device", "model", "release", "devices", "alert"]
"""``hub``: what belongs to no device or model; ``listing``: whatever the scope leaves of it;
``device``, ``model``: one; ``release``: a model on devices by selector; ``devices``: a selector;
``alert``: about a device, a model, both or the fleet."""

ANY: Final[frozenset[Role]] = frozenset({"viewer", "operator", "releaser", "admin"})
OPERATORS: Final[frozenset[Role]] = frozenset({"operator", "admin"})
WORKERS: Final[frozenset[Role]] = frozenset({"operator", "releaser", "admin"})
RELEASERS: Final[frozenset[Role]] = frozenset({"releaser", "admin"})
ADMINS: Final[frozenset[Role]] = frozenset({"admin"})


@dataclass(frozen=True)
class Act:
    """Who may do something, and on what kind of thing."""

    roles: frozenset[Role]
    on: frozenset[Kind]


def _act(roles: frozenset[Role], *kinds: Kind) -> Act:
    return Act(roles, frozenset(kinds))


ACTS: Final[Mapping[str, Act]] = {
    "whoami.read": _act(ANY, "hub"),
    "metrics.read": _act(ANY, "hub"),
    "delivery.read": _act(ANY, "hub"),
    "audit.read": _act(ADMINS, "hub"),
    "token.read": _act(ADMINS, "hub"),
    "token.make": _act(ADMINS, "hub"),
    "token.revoke": _act(ADMINS, "hub"),
    "sign-in-link.make": _act(ADMINS, "hub"),
    "user.read": _act(ADMINS, "hub"),
    "user.put": _act(ADMINS, "hub"),
    "user.delete": _act(ADMINS, "hub"),
    "webhook.read": _act(ADMINS, "hub"),
    "webhook.make": _act(ADMINS, "hub"),
    "webhook.put": _act(ADMINS, "hub"),
    "webhook.secret": _act(ADMINS, "hub"),
    "webhook.test": _act(ADMINS, "hub"),
    "webhook.delete": _act(ADMINS, "hub"),
    "device.list": _act(ANY, "listing"),
    "device.read": _act(ANY, "device"),
    "device.set-aside": _act(ANY, "device"),
    "record.read": _act(ADMINS, "device"),
    "device.relabel": _act(OPERATORS, "device", "devices"),
    "device.approve": _act(OPERATORS, "device", "devices"),
    "device.revoke": _act(OPERATORS, "device", "devices"),
    "device.replace": _act(OPERATORS, "device"),
    "device.delete": _act(OPERATORS, "device"),
    "device.retry": _act(OPERATORS, "device", "devices"),
    "device.restart": _act(OPERATORS, "device", "devices"),
    "device.diagnose": _act(OPERATORS, "device", "devices"),
    "device.diagnosis": _act(ANY, "device"),
    "device.watch-log": _act(OPERATORS, "device"),
    "device.log": _act(ANY, "device"),
    "device.watch-feeds": _act(OPERATORS, "device"),
    "device.feeds": _act(ANY, "device"),
    "device.rebaseline": _act(OPERATORS, "device", "model", "release"),
    "enrol-token.make": _act(OPERATORS, "device"),
    "drift.list": _act(ANY, "listing"),
    "history.read": _act(ANY, "model", "device", "listing"),
    "event.list": _act(ANY, "listing"),
    "event.follow": _act(ANY, "listing"),
    "alert.list": _act(ANY, "listing"),
    "alert.read": _act(ANY, "alert"),
    "alert.acknowledge": _act(OPERATORS, "alert"),
    "feed-setting.list": _act(ANY, "listing"),
    "feed-setting.put": _act(OPERATORS, "devices"),
    "feed-setting.delete": _act(OPERATORS, "devices"),
    "silence.list": _act(ANY, "listing"),
    "silence.begin": _act(OPERATORS, "devices"),
    "silence.end": _act(OPERATORS, "devices"),
    "model.list": _act(ANY, "listing"),
    "model.read": _act(ANY, "model"),
    "alias.put": _act(RELEASERS, "model"),
    "alias.remove": _act(RELEASERS, "model"),
    "policy.put": _act(ADMINS, "model"),
    "policy.remove": _act(ADMINS, "model"),
    "source.list": _act(ANY, "listing"),
    "source.add": _act(RELEASERS, "model"),
    "source.note": _act(RELEASERS, "model"),
    "source.remove": _act(RELEASERS, "model"),
    "loop.list": _act(ANY, "listing"),
    "loop.read": _act(ANY, "model"),
    "loop.start": _act(WORKERS, "model"),
    "loop.approve": _act(WORKERS, "model"),
    "loop.abandon": _act(WORKERS, "model"),
    "loop.candidate": _act(RELEASERS, "model"),
    "sampling.list": _act(ANY, "listing"),
    "sampling.read": _act(ANY, "release"),
    "sampling.begin": _act(OPERATORS, "release"),
    "sampling.end": _act(OPERATORS, "release"),
    "sample.read": _act(WORKERS, "release"),
    "sample.label": _act(WORKERS, "release"),
    "sample.forget": _act(OPERATORS, "release"),
    "version.push": _act(RELEASERS, "model"),
    "version.recheck": _act(RELEASERS, "model"),
    "version.approve": _act(RELEASERS, "model"),
    "signing.read": _act(ANY, "listing"),
    "signing.request": _act(RELEASERS, "listing"),
    "signing.sign": _act(RELEASERS, "model", "hub"),
    "expiry.list": _act(ANY, "listing"),
    "assignment.list": _act(ANY, "listing"),
    "assignment.read": _act(ANY, "release"),
    "assignment.put": _act(OPERATORS, "release"),
    "assignment.delete": _act(OPERATORS, "release"),
    "rollout.list": _act(ANY, "listing"),
    "rollout.read": _act(ANY, "release"),
    "rollout.start": _act(OPERATORS, "release", "listing"),
    "rollout.act": _act(OPERATORS, "release"),
    "rollout.metrics": _act(OPERATORS, "model", "device"),
}
"""Every act there is. A route, a page or a command names one; an unknown name is an error."""


@dataclass(frozen=True)
class Actor:
    """Who asks: ``name`` of a token or a person, as the audit log has it."""

    name: str
    role: Role
    scope: Scope = EVERYTHING
    kind: Literal["token", "person"] = "token"
    owner: str = ""
    """The person: of a token who holds it, of a person the same as ``name``."""

    @property
    def label(self) -> str:
        """As the audit log names it: ``token:ci``."""
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True)
class Object:
    """What an act is on, as far as scopes go; what is None has no such side."""

    kind: Kind
    words: str
    """For people, such as ``device cam-1``."""
    model: str | None = None
    labels: Mapping[str, str] | None = None
    selector: str | None = None
    every_model: bool = False
    """It reaches all models on its devices: none may be out of scope."""
    every_device: bool = False
    """It reaches devices of all labels."""


HUB = Object("hub", "the hub itself", every_model=True, every_device=True)
LISTING = Object("listing", "a list")


class Forbidden(Refused):
    """The role doesn't go so far, whatever the act is on."""

    code = "forbidden"


@dataclass(frozen=True)
class AccessDecision:
    """``refusal`` is empty when the act is allowed; ``by_role`` says what refused it."""

    refusal: str = ""
    by_role: bool = field(default=False, kw_only=True)


ALLOWED = AccessDecision()


def may(actor: Actor, act: str, thing: Object | None = None) -> AccessDecision:
    """Whether ``actor`` may do ``act`` on ``thing``; without one, whether their role may at all.

    Raises KeyError for an act that isn't one, ValueError for an object the act is never on.
    """
    found = ACTS[act]
    if actor.role not in found.roles:
        roles = " or ".join(sorted(found.roles))
        return AccessDecision(
            f"this needs the role {roles}; {actor.name} is {actor.role}", by_role=True
        )
    if thing is None:
        return ALLOWED
    if thing.kind not in found.on:
        raise ValueError(f"{act} is never on a {thing.kind}")
    return AccessDecision(_outside(actor, act, thing))


def _outside(actor: Actor, act: str, thing: Object) -> str:
    """Which side of an object is outside of the actor's scope, in words; empty: none is."""
    match thing.kind:
        case "listing":
            return ""
        case "hub":
            # Whose role is let in there, is let in as far as the act goes: it shows no device.
            return "" if act == "whoami.read" else _sides(actor, thing)
        case "device" | "model" | "release" | "devices" | "alert":
            return _sides(actor, thing)
        case _:
            assert_never(thing.kind)


def _sides(actor: Actor, thing: Object) -> str:
    scope, name = actor.scope, actor.name
    if thing.model is not None and not scope.has_model(thing.model):
        return f"{name} may not act on the model {thing.model!r}"
    if thing.every_model and scope.models:
        return (
            f"{name} may act on the models {', '.join(scope.models)}; {thing.words} reaches every "
            "model on its devices"
        )
    devices = f"{name} may act on devices with {scope.selector}"
    if thing.labels is not None and not scope.has_device(thing.labels):
        return f"{devices}; {thing.words} is not one"
    if thing.selector is not None and not scope.covers(thing.selector):
        return f"{devices}; {thing.words} reaches beyond"
    if thing.every_device and scope.selector.parts:
        return f"{devices}; {thing.words} is about more"
    return ""
