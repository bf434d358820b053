"""Aliases: names such as ``champion`` that stand for a version of a model."""

from typing import Any

from muster_client.answers import Alias, Aliases
from muster_client.resources.base import Resource
from muster_client.transport import part


class ModelAliases(Resource):
    """Aliases of one model at a time."""

    def list(self, model: str) -> Aliases:
        """What a model's aliases stand for, and stood for."""
        found: Aliases = self._api.get(f"/models/{part(model)}/aliases")
        return found

    def set(self, model: str, alias: str, version: str, *, reason: str = "") -> Alias:
        """Let an alias stand for a version."""
        body: dict[str, Any] = {"version": version, "reason": reason}
        found: Alias = self._api.put(f"/models/{part(model)}/aliases/{part(alias)}", body)
        return found

    def remove(self, model: str, alias: str) -> None:
        """Take an alias away; its history stays."""
        self._api.delete(f"/models/{part(model)}/aliases/{part(alias)}")
