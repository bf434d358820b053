"""A host's view of one edge node: who is born, what aliases stand for, who has died. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from muster_agent.feeds.samples import Grade
from muster_agent.feeds.sparkplug.codec import (
    GOOD,
    UNCERTAIN,
    DataType,
    Metric,
    Payload,
    Value,
    signed,
)
from muster_agent.feeds.sparkplug.node import BD_SEQ, SEQUENCE

_OF_A_SESSION = frozenset({"DBIRTH", "NDATA", "DDATA", "DDEATH"})


@dataclass(frozen=True)
class MetricValue:
    """A value of a metric: of the node itself, or of a device behind it (else empty)."""

    device: str
    name: str
    value: Value
    seconds: float | None
    grade: Grade


@dataclass(frozen=True)
class NodeNews:
    """What a message said."""

    values: tuple[MetricValue, ...] = ()
    historical: int = 0
    """Values of a time without a link; they are history, no present values."""
    dead: str | None = None
    """The device that has died; empty: the node with all its devices."""
    rebirth: bool = False
    """Something was missed: the node is to be asked to be born again."""


@dataclass
class _Known:
    names: dict[int, str] = field(default_factory=dict)
    kinds: dict[str, DataType | None] = field(default_factory=dict)


class NodeView:
    """What is known of one edge node."""

    def __init__(self) -> None:
        self._seq: int | None = None
        """Of the last message; None: the node isn't born, as far as is known here."""
        self._bd_seq: Value = None
        self._known: dict[str, _Known] = {}

    def take(self, kind: str, device: str, payload: Payload) -> NodeNews:
        """A message of a kind (NBIRTH, DDATA, …) of the node, or of a device behind it."""
        if kind == "NBIRTH":
            return self._node_birth(payload)
        if kind == "NDEATH":
            return self._node_death(payload)
        if kind in _OF_A_SESSION:
            return self._in_session(kind, device, payload)
        return NodeNews()  # Commands, for the node.

    def _node_birth(self, payload: Payload) -> NodeNews:
        self._known = {}
        self._seq = payload.seq
        self._bd_seq = _value_named(payload.metrics, BD_SEQ)
        return self._born("", payload)

    def _node_death(self, payload: Payload) -> NodeNews:
        """A death of an earlier session comes late, and says nothing of this one."""
        if self._seq is None or _value_named(payload.metrics, BD_SEQ) != self._bd_seq:
            return NodeNews()
        self._seq = None
        return NodeNews(dead="")

    def _in_session(self, kind: str, device: str, payload: Payload) -> NodeNews:
        missed = self._seq is None or payload.seq != (self._seq + 1) % SEQUENCE
        if self._seq is None:
            return NodeNews(rebirth=True)
        self._seq = payload.seq if payload.seq is not None else self._seq
        if kind == "DDEATH":
            self._known.pop(device, None)
            return NodeNews(dead=device, rebirth=missed)
        news = self._born(device, payload) if kind == "DBIRTH" else self._data(device, payload)
        return NodeNews(news.values, news.historical, None, missed or news.rebirth)

    def _born(self, device: str, payload: Payload) -> NodeNews:
        known = self._known[device] = _Known()
        for metric in payload.metrics:
            if metric.name is not None:
                known.kinds[metric.name] = metric.kind
                if metric.alias is not None:
                    known.names[metric.alias] = metric.name
        return self._data(device, payload)

    def _data(self, device: str, payload: Payload) -> NodeNews:
        known = self._known.get(device)
        if known is None:
            return NodeNews(rebirth=True)
        values, historical, unknown = [], 0, False
        for metric in payload.metrics:
            name = metric.name if metric.name is not None else known.names.get(metric.alias or -1)
            if name is None or name not in known.kinds:
                unknown = True
            elif metric.historical:
                historical += 1
            else:
                values.append(_heard(device, name, metric, payload, known.kinds))
        return NodeNews(tuple(values), historical, None, unknown)


def _heard(
    device: str,
    name: str,
    metric: Metric,
    payload: Payload,
    kinds: Mapping[str, DataType | None],
) -> MetricValue:
    at = metric.milliseconds if metric.milliseconds is not None else payload.milliseconds
    value = metric.value
    if metric.kind is None and isinstance(value, int) and not isinstance(value, bool):
        value = signed(value, kinds[name])  # data may leave the type out
    grade: Grade = "good" if value is not None else "bad"
    if metric.quality is not None and metric.quality != GOOD:
        grade = "uncertain" if metric.quality == UNCERTAIN else "bad"
    return MetricValue(device, name, value, None if at is None else at / 1000, grade)


def _value_named(metrics: Iterable[Metric], name: str) -> Value:
    return next((metric.value for metric in metrics if metric.name == name), None)
