"""Which trace a rollout is, by a name that every process of a hub finds by itself. Pure."""

import hmac
from dataclasses import dataclass

TRACE_CHARS, SPAN_CHARS = 32, 16
SAMPLED = 1 << 32


@dataclass(frozen=True)
class Traces:
    """Names of traces and spans, made with a key of the hub's: the same at every look, so that a
    span that is sent twice is one, and no other hub's."""

    key: bytes
    share: float = 1.0
    """Of rollouts that are traced, each wholly or not at all."""

    @classmethod
    def of(cls, secret: bytes, share: float) -> "Traces":
        """With a key of their own, made from a secret that serves for other things as well."""
        return cls(hmac.digest(secret, b"names of traces", "sha256"), share)

    def trace(self, rollout: int) -> str:
        """The id of a rollout's trace; empty when it isn't traced."""
        name = self._name(f"rollout {rollout}")
        sampled = int(name[-8:], 16) < self.share * SAMPLED
        return name[:TRACE_CHARS] if sampled else ""

    def span(self, *parts: object) -> str:
        """The id of a span, by what it is of."""
        return self._name(" ".join(map(str, ("span", *parts))))[:SPAN_CHARS]

    def root(self, rollout: int) -> str:
        """The id of the span that began a rollout."""
        return self.span("start", rollout)

    def parent(self, rollout: int | None) -> str:
        """The ``traceparent`` of what a rollout causes; empty when that isn't traced."""
        trace = self.trace(rollout) if rollout is not None else ""
        return f"00-{trace}-{self.root(rollout or 0)}-01" if trace else ""

    def _name(self, text: str) -> str:
        return hmac.digest(self.key, text.encode(), "sha256").hex()
