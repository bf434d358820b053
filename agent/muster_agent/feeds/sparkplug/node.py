"""An edge node's side of a session: births, data, death, and what is asked of it. Pure.

Every message of a session after its birth carries the next number of 0 to 255. Names come with the
birth, and data carry the aliases alone.
"""

from collections.abc import Mapping, Sequence

from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.samples import Grade
from muster_agent.feeds.sparkplug.codec import (
    BAD,
    GOOD,
    UNCERTAIN,
    DataType,
    Metric,
    Payload,
    PayloadError,
    Value,
    decode,
)

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
BD_SEQ = "bdSeq"
SEQUENCE = 256
QUALITIES: Mapping[Grade, int] = {"good": GOOD, "uncertain": UNCERTAIN, "bad": BAD}


def topic(group: str, kind: str, node: str) -> str:
    """Where messages of a kind are published."""
    return f"{NAMESPACE}/{group}/{kind}/{node}"


def values_of(answer: FeedAnswer) -> dict[str, tuple[DataType, Value]]:
    """An answer as metrics: each number of each output, and what a reader needs beside them."""
    found: dict[str, tuple[DataType, Value]] = {}
    for name, numbers in answer.outputs.items():
        for index, number in enumerate(numbers):
            key = f"outputs/{name}" if len(numbers) == 1 else f"outputs/{name}/{index}"
            found[key] = (DataType.DOUBLE, number)
    found["label"] = (DataType.STRING, answer.label)
    found["confidence"] = (DataType.DOUBLE, answer.confidence)
    texts = {"basis": answer.basis, "reason": answer.reason, "model": answer.model}
    texts["version"] = answer.version
    texts["signals"] = ", ".join(answer.signals)
    return found | {name: (DataType.STRING, text) for name, text in texts.items()}


class EdgeNode:
    """One edge node through its sessions."""

    def __init__(self) -> None:
        self._bd_seq = -1
        self._seq = 0
        self._aliases: dict[str, int] = {}
        self._born: dict[str, DataType] = {}
        self._last: FeedAnswer | None = None

    def death(self, milliseconds: int) -> Payload:
        """The will of the session that begins now."""
        self._bd_seq = (self._bd_seq + 1) % SEQUENCE
        self._born = {}
        return self.last_will(milliseconds)

    def last_will(self, milliseconds: int) -> Payload:
        """The same, to be published before the node leaves on purpose."""
        return Payload(milliseconds, (self._bd_metric(milliseconds),))

    def _bd_metric(self, milliseconds: int) -> Metric:
        return Metric(BD_SEQ, None, milliseconds, DataType.INT64, self._bd_seq)

    def birth(self, milliseconds: int) -> Payload:
        """Everything that there is, with its name, type and present value."""
        self._seq = 0
        given = {} if self._last is None else values_of(self._last)
        known: dict[str, tuple[DataType, Value]] = {
            name: (kind, None) for name, kind in self._born.items()
        }
        self._born = {name: kind for name, (kind, _) in (known | given).items()}
        metrics = [
            self._bd_metric(milliseconds),
            Metric(REBIRTH, None, milliseconds, DataType.BOOLEAN, value=False),
        ]
        for name, (kind, value) in (known | given).items():
            alias = self._aliases.setdefault(name, len(self._aliases) + 1)
            metrics.append(Metric(name, alias, milliseconds, kind, value, quality=self._quality()))
        return Payload(milliseconds, tuple(metrics), 0)

    def _quality(self) -> int:
        return BAD if self._last is None else QUALITIES[self._last.grade]

    def needs_birth(self, answer: FeedAnswer) -> bool:
        """Whether an answer has a metric that this session's birth did not name."""
        return any(name not in self._born for name in values_of(answer))

    def know(self, answer: FeedAnswer) -> None:
        """Name an answer's metrics in the next birth, too."""
        self._born |= {name: kind for name, (kind, _) in values_of(answer).items()}

    def remember(self, answer: FeedAnswer) -> None:
        """The answer that a birth tells of."""
        self._last = answer

    def data(self, answers: Sequence[FeedAnswer], *, historical: bool = False) -> Payload:
        """Answers as data, by their aliases; ``historical``: those of a time without a link."""
        metrics = []
        for answer in answers:
            at = round(answer.at * 1000)
            given = values_of(answer)
            for name, kind in self._born.items():
                _, value = given.get(name, (kind, None))
                metrics.append(
                    Metric(
                        None,
                        self._aliases[name],
                        at,
                        kind,
                        value,
                        historical,
                        QUALITIES[answer.grade],
                    )
                )
        self._seq = (self._seq + 1) % SEQUENCE
        newest = max(round(answer.at * 1000) for answer in answers)
        return Payload(newest, tuple(metrics), self._seq)


def asks_for_birth(payload: bytes) -> bool:
    """Whether a command says that the node is to be born again."""
    try:
        metrics = decode(payload).metrics
    except PayloadError:
        return False
    return any(metric.name == REBIRTH and metric.value is True for metric in metrics)
