"""Inference runtimes behind one interface. Importing this package imports none of them."""

from muster_agent.runtimes.base import (
    Model,
    ModelError,
    NoRuntimeError,
    OutOfMemoryError,
    UnfitInputError,
)
from muster_agent.runtimes.registry import (
    MODULES,
    RUNTIMES,
    available,
    load,
    needs,
    prepare,
    providers,
    version_of,
)

__all__ = [
    "MODULES",
    "RUNTIMES",
    "Model",
    "ModelError",
    "NoRuntimeError",
    "OutOfMemoryError",
    "UnfitInputError",
    "available",
    "load",
    "needs",
    "prepare",
    "providers",
    "version_of",
]
