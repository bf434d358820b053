"""Labels arrive late and by inference id: what was answered is remembered for a while.

One memory per slot, shared by the folds of its versions, so that a label that comes after a swap
still counts for the version that answered. Pure.
"""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from muster_agent.observe.window import ModelIdentity

REMEMBERED_MAX = 65_536


class Answered(NamedTuple):
    """One remembered inference."""

    author: "Author"
    value: float
    """The predicted class's index, or a regression's answer."""


class Author(NamedTuple):
    """A version and what its labels mean: class names, or none for a regression."""

    identity: ModelIdentity
    classes: tuple[str, ...]


class LabelMemory:
    """The last answers by inference id, the oldest forgotten first."""

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._answers: dict[bytes, Answered] = {}
        self._max = remembered_max

    def __len__(self) -> int:
        return len(self._answers)

    def remember(self, author: Author, answers: Iterable[tuple[bytes, float]]) -> None:
        """Remember answers with an id; an id used again means its newest inference."""
        for identifier, value in answers:
            self._answers.pop(identifier, None)
            self._answers[identifier] = Answered(author, value)
        over = len(self._answers) - self._max
        for identifier in list(islice(self._answers, max(over, 0))):
            del self._answers[identifier]

    def take(self, identifier: bytes) -> Answered | None:
        """The remembered answer, which is then forgotten: each inference is labelled once."""
        return self._answers.pop(identifier, None)
