"""The hub's engine: load → decide → persist with the messages that follow, in one transaction."""

from muster_hub.engine.engine import Engine

__all__ = ["Engine"]
