"""Policies: the gates that a model's versions must pass before they may be signed."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muster_client.answers import Policy
from muster_client.failures import WrongUsage
from muster_client.resources.base import Resource
from muster_client.transport import part


class Policies(Resource):
    """The policy of one model at a time."""

    def show(self, model: str) -> Policy:
        """A model's gates."""
        found: Policy = self._api.get(f"/models/{part(model)}/policy")
        return found

    def set(self, model: str, gates: str | Path | Sequence[Mapping[str, Any]]) -> Policy:
        """Declare a model's gates: plain values, or a TOML file with ``[[gates]]`` entries.

        They count for versions that are checked from now on.
        """
        given = read_gates(Path(gates)) if isinstance(gates, str | Path) else list(gates)
        found: Policy = self._api.put(f"/models/{part(model)}/policy", {"gates": given})
        return found

    def remove(self, model: str) -> None:
        """Ask for no gates any more."""
        self._api.delete(f"/models/{part(model)}/policy")


def read_gates(path: Path) -> list[Any]:
    """The ``[[gates]]`` of a TOML file; raises WrongUsage."""
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{path}: not TOML: {error}") from None
    gates = stored.get("gates")
    if not isinstance(gates, list) or set(stored) != {"gates"}:
        raise WrongUsage(f"{path}: write [[gates]] entries and nothing else")
    return gates
