"""Models that remember: one for each connection, so that no client meets another's state."""

from collections.abc import Callable, Mapping, Sequence

from muster_agent.runtimes.base import Array, Model, ModelError, OutOfMemoryError

SESSIONS_MAX = 32


class SessionModel:
    """A model of its own for each session; ``enter`` says whose turn it is."""

    def __init__(self, load: Callable[[], Model]) -> None:
        """``load`` makes a model that remembers nothing; the first is made at once, and so is one
        for the next session as soon as a session took the last."""
        self._load = load
        self._spare: Model | None = load()
        self._models: dict[int, Model] = {}
        self._session = 0
        self.inputs, self.outputs = self._spare.inputs, self._spare.outputs

    def enter(self, session: int) -> None:
        """The next runs are this session's."""
        self._session = session

    def leave(self, session: int) -> None:
        """The session is over: what its model remembered is forgotten."""
        self._models.pop(session, None)

    def keep(self, names: Sequence[str]) -> None:
        """All outputs are given, always: a session's model is made when it begins."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the session's own model; raises ModelError when there can't be one more."""
        model = self._models.get(self._session)
        if model is None:
            model = self._models[self._session] = self._begin()
        return model.run(inputs)

    def _begin(self) -> Model:
        if len(self._models) >= SESSIONS_MAX:
            raise ModelError(
                f"{SESSIONS_MAX} connections have a session of this model, and no more can: "
                "close one"
            )
        model, self._spare = self._spare, None
        try:
            return model or self._load()
        except (OutOfMemoryError, MemoryError):
            raise ModelError(
                f"no memory for one more session of this model beside {len(self._models)}: "
                "close one"
            ) from None
