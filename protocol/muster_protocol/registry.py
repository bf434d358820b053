"""What a word stands for: one entry for each word of a closed set, and a refusal for any other.

A registry is made from the ``Literal`` that lists its words and a function that names the entry of
each by ``match``, ending in ``assert_never``. So a word without an entry is refused three times: by
mypy, when the registry is made, and by the test that walks every registry.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, get_args

from muster_protocol.wire.errors import MusterError

WORD_CHARS_SHOWN = 64
Word = TypeVar("Word", bound=str)
Entry = TypeVar("Entry")


class UnknownWordError(MusterError, LookupError):
    """A word that a registry has no entry for; the message lists those it has."""


class Registry(Mapping[Word, Entry], Generic[Word, Entry]):
    """Entries by word, in the order of the ``Literal`` that lists the words."""

    def __init__(self, what: str, words: Any, entry_of: Callable[[Word], Entry]) -> None:
        """``what`` it holds, in the singular; ``words``, a ``Literal``; and each word's entry.

        Raises TypeError when ``words`` lists none.
        """
        self.what = what
        listed: tuple[Word, ...] = get_args(words)
        if not listed:
            raise TypeError(f"a registry of {what}s needs a Literal of its words, not {words!r}")
        self._entries = {word: entry_of(word) for word in listed}

    def find(self, word: str) -> Entry:
        """The entry of a word from outside; raises UnknownWordError."""
        for known, entry in self._entries.items():
            if known == word:
                return entry
        raise UnknownWordError(
            f"there is no {self.what} {word[:WORD_CHARS_SHOWN]!r} here: "
            f"there are {', '.join(self._entries)}"
        )

    def __getitem__(self, word: Word) -> Entry:
        return self._entries[word]

    def __iter__(self) -> Iterator[Word]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
