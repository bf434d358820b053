"""An actor's leave for one act: every object it is used on is loaded here, or asked about.

API and console alike work with a ``Leave``: who has one has named their act, and what they get from
it they may act on.
"""

from collections.abc import Mapping, Sequence

from sqlmodel import Session

from muster_hub.access.acts import HUB, LISTING, Actor, Forbidden, Object, may
from muster_hub.access.scope import Scope
from muster_hub.errors import NotFound, Refused
from muster_hub.storage.alerting import Silence
from muster_hub.storage.models import Alert, Assignment, Device, Rollout
from muster_hub.storage.sampling import SamplingPolicyRow

METADATA_OF_MODEL = "model-"
"""What the role of a model in the catalogue begins with."""


class Leave:
    """``asked`` becomes true with the first object, and a route that never asked is an error."""

    def __init__(self, actor: Actor, act: str) -> None:
        """Raises Forbidden when the actor's role may not do ``act`` at all."""
        self.actor = actor
        self.act = act
        self.asked = False
        self.on_what = ""
        found = may(actor, act)
        if found.refusal:
            raise Forbidden(found.refusal)

    def on(self, thing: Object) -> None:
        """Raise Refused unless the actor may do it on this."""
        self.asked, self.on_what = True, thing.words
        found = may(self.actor, self.act, thing)
        if found.refusal:
            raise Refused(found.refusal)

    def on_hub(self) -> None:
        """Raise Refused unless the actor may do it on the hub as a whole."""
        self.on(HUB)

    # Lists: what the scope leaves of them

    def on_list(self) -> None:
        """The answer is a list: the scope decides what is in it."""
        self.on(LISTING)

    @property
    def scope(self) -> Scope:
        """For a list: what may be in it."""
        self.on_list()
        return self.actor.scope

    def narrow(self, selector: str | None) -> str:
        """For a list of devices: ``selector`` with the scope's own parts added."""
        return self.scope.narrow(selector)

    def sees_role(self, role: str) -> bool:
        """Whether a role of the catalogue is no other model's."""
        model = role.removeprefix(METADATA_OF_MODEL)
        return model == role or self.actor.scope.has_model(model)

    # Objects

    def device(self, session: Session, name: str, *, whole: bool = False) -> Device:
        """A device; ``whole`` when the act reaches every model on it."""
        row = session.get(Device, name)
        if row is None or row.deleted is not None:
            raise NotFound(f"there is no device {name!r}")
        self.labels(f"device {name}" if whole else name, row.labels, whole=whole)
        return row

    def device_and_model(self, session: Session, name: str, model: str) -> Device:
        """One model on a device."""
        self.model(model)
        return self.device(session, name)

    def labels(self, words: str, labels: Mapping[str, str], *, whole: bool = True) -> None:
        """A device with these labels, which may not be there yet."""
        self.on(Object("device", words, labels=labels, every_model=whole))

    def model(self, name: str) -> None:
        """Raise Refused unless the actor may do it on this model."""
        self.on(Object("model", f"model {name}", model=name))

    def release(self, model: str, selector: str, words: str) -> None:
        """A model on the devices that a selector matches."""
        self.on(Object("release", words, model=model, selector=selector))

    def rollout(self, session: Session, number: int) -> Rollout:
        """A rollout that the actor may do it on; raises NotFound and Refused."""
        row = session.get(Rollout, number)
        if row is None:
            raise NotFound(f"there is no rollout {number}")
        self.release(row.model, row.selector, f"rollout {number}")
        return row

    def assignment(self, session: Session, number: int) -> Assignment:
        """An assignment that the actor may do it on; raises NotFound and Refused."""
        row = session.get(Assignment, number)
        if row is None:
            raise NotFound(f"there is no assignment {number}")
        self.release(row.model, row.selector, f"assignment {number}")
        return row

    def sampling(self, session: Session, number: int) -> SamplingPolicyRow:
        """A sampling policy that the actor may do it on; raises NotFound and Refused."""
        row = session.get(SamplingPolicyRow, number)
        if row is None:
            raise NotFound(f"there is no sampling policy {number}")
        self.release(row.model, row.selector, f"sampling policy {number}")
        return row

    def selector(self, selector: str, words: str) -> None:
        """Every model on the devices that a selector matches."""
        self.on(Object("devices", words, selector=selector, every_model=True))

    def silence(self, session: Session, number: int) -> Silence:
        """A silence that the actor may do it on; raises NotFound and Refused."""
        row = session.get(Silence, number)
        if row is None:
            raise NotFound(f"there is no silence {number}")
        self.selector(row.selector, "this silence")
        return row

    def alert(self, session: Session, number: int, *, change: bool = False) -> Alert:
        """An alert; to ``change`` one of a whole device, all its models must be in scope."""
        row = session.get(Alert, number)
        if row is None:
            raise NotFound(f"there is no alert {number}")
        device = session.get(Device, row.device) if row.device else None
        model = model_of_alert(row.kind, row.detail)
        self.on(
            Object(
                "alert",
                f"alert {number}",
                model=model,
                labels=None if device is None else device.labels,
                every_model=model is None and change,
                every_device=device is None,
            )
        )
        return row

    def devices(self, words: str, found: Mapping[str, Mapping[str, str]]) -> None:
        """Several devices, by name with their labels."""
        for name, labels in found.items():
            self.on(Object("device", f"{words} {name}", labels=labels))


ABOUT_MODELS: Sequence[str] = ("drift", "refusal")
"""Kinds of alerts that are always about a model."""


def model_of_alert(kind: str, detail: Mapping[str, object]) -> str | None:
    """The model that an alert is about; None: about no one model. An old one that doesn't say which
    is nobody's who is limited to some."""
    model = detail.get("model")
    if isinstance(model, str) and model:
        return model
    return "" if kind in ABOUT_MODELS else None
