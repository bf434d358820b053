"""Inference runtimes behind one interface. Importing this package imports none of them."""

from muster_agent.runtimes.base import (
    MODULES,
    Model,
    ModelError,
    NoRuntimeError,
    OutOfMemoryError,
    UnfitInputError,
    available,
    load,
    prepare,
)

__all__ = [
    "MODULES",
    "Model",
    "ModelError",
    "NoRuntimeError",
    "OutOfMemoryError",
    "UnfitInputError",
    "available",
    "load",
    "prepare",
]
