"""The model of a slot as a feed needs it: what it is given, and what answers in its place."""

from collections.abc import Mapping

import numpy as np
from msgspec import UNSET

from muster_agent.base.feed_settings import FeedSettings
from muster_agent.base.tag_settings import TagSettings
from muster_agent.feeds.answers import Basis, FeedAnswer, classified, grade_of_basis
from muster_agent.feeds.assembly import Assembler, InputRow, refusals
from muster_agent.feeds.images.assembly import PictureAssembler
from muster_agent.feeds.samples import Reason
from muster_agent.feeds.sinks.registry import sink_kind
from muster_agent.feeds.slot_client import SlotAnswer
from muster_agent.feeds.sources.base import FeedFault
from muster_agent.runtimes.base import NUMPY_TYPES
from muster_agent.worker.fallback import FallbackContract
from muster_agent.worker.rows import Quality
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.feeding import fed_input
from muster_protocol.wire.imaging import pictured_input
from muster_protocol.wire.manifest import Manifest

_BASES: Mapping[Quality, Basis] = {
    Quality.CONSTANT: "constant",
    Quality.LAST_GOOD: "last_good",
    Quality.NO_DECISION: "no_decision",
}
_BASIS_WORDS: Mapping[str, Basis] = {
    "good": "model",
    "constant": "constant",
    "last_good": "last_good",
    "no_decision": "no_decision",
}


def tags_of(settings: FeedSettings) -> dict[str, TagSettings]:
    """Every tag of a feed by its signal's name."""
    return {name: tag for source in settings.sources.values() for name, tag in source.tags.items()}


def assembler_of(manifest: Manifest) -> Assembler | PictureAssembler:
    """What fills this model's input; ``refusals`` come first."""
    return Assembler(manifest) if manifest.image is UNSET else PictureAssembler(manifest)


class FedModel:
    """A version that a feed asks; raises ProtocolError, with every reason, when it can't."""

    def __init__(self, manifest: Manifest, fallback: str | None, settings: FeedSettings) -> None:
        found = refusals(manifest, tags_of(settings))
        for sink in settings.sinks.values():
            try:
                sink_kind(sink).check(sink, manifest)
            except (ProtocolError, FeedFault) as error:
                found.append(str(error))
        if found:
            raise ProtocolError("; ".join(found))
        self.manifest = manifest
        where = f"{manifest.model} {manifest.version}"
        if manifest.image is UNSET:
            self.tensor = fed_input(manifest.inputs, (), where)
        else:
            self.tensor = pictured_input(manifest.image, manifest.inputs, where)
        if self.tensor.batch is not None and self.tensor.shape[self.tensor.batch] not in (-1, 1):
            raise ProtocolError(f"{where}: a feed asks with single elements, not with batches")
        self.assembler = assembler_of(manifest)
        chosen = manifest.fallback(fallback)
        self._contract = None if chosen is None else FallbackContract(manifest, chosen.name)

    def answer(self, row: InputRow, said: SlotAnswer, now: float, at: float) -> FeedAnswer:
        """The slot's answer to a row, for the sinks. ``at`` is used where the row has no time."""
        basis = _BASIS_WORDS.get(said.quality, "no_decision")
        outputs = {name: numbers for name, (_, numbers) in said.outputs.items()}
        if basis == "model" and row.grade == "good" and self._contract is not None:
            self._remember(said, now)
        label, confidence = classified(self.manifest, outputs)
        return FeedAnswer(
            outputs=outputs,
            grade=grade_of_basis(basis, row.grade),
            reason=row.reason if basis == "model" else "model",
            basis=basis,
            model=self.manifest.model,
            version=self.manifest.version,
            at=row.at or at,
            label=label,
            confidence=confidence,
            signals=row.signals,
            picture=row.picture,
        )

    def _remember(self, said: SlotAnswer, now: float) -> None:
        assert self._contract is not None, "the caller looks"
        types = {tensor.name: NUMPY_TYPES.get(tensor.datatype) for tensor in self.manifest.outputs}
        if self._contract.remembers and set(said.outputs) == set(types):
            arrays = {
                name: np.array(numbers, types[name]).reshape(shape)
                for name, (shape, numbers) in said.outputs.items()
            }
            self._contract.remember(arrays, now)

    def substitute(self, row: InputRow, reason: Reason, now: float, at: float) -> FeedAnswer:
        """What the signed fallback says in the model's place; nothing where there is none."""
        basis: Basis = "no_decision"
        outputs: dict[str, list[float]] = {}
        if self._contract is not None:
            quality, arrays = self._contract.answer(1, now)
            basis = _BASES[quality]
            outputs = {
                name: [float(value) for value in array.ravel()] for name, array in arrays.items()
            }
        label, confidence = classified(self.manifest, outputs)
        return FeedAnswer(
            outputs=outputs,
            grade=grade_of_basis(basis, "good"),
            reason=reason,
            basis=basis,
            model=self.manifest.model,
            version=self.manifest.version,
            at=row.at or at,
            label=label,
            confidence=confidence,
            signals=row.signals,
            picture=row.picture,
        )
