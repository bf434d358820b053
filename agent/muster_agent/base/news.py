"""What repeats is news once a while: a full disk fails every step, and one line says it."""

REPEAT_SECONDS = 3600.0
TEXTS_MAX = 32


class News:
    """Times are monotonic seconds."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def is_news(self, text: str, now: float) -> bool:
        """Whether ``text`` was not said within the last ``REPEAT_SECONDS``; it is said now."""
        said = self._said.get(text)
        if said is not None and now - said < REPEAT_SECONDS:
            return False
        self._said.pop(text, None)
        while len(self._said) >= TEXTS_MAX:
            self._said.pop(next(iter(self._said)))
        self._said[text] = now
        return True
