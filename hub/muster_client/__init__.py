"""A Muster hub from Python: the calls of the `muster` command, typed, for scripts and notebooks.

with muster_client.Hub.from_profile() as hub:
    for device in hub.devices.list(selector="site=berlin"):
        print(device["id"], device["online"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muster_client.failures import OperatorError, Refused, Rejected, Unreachable, WrongUsage
    from muster_client.hub import Hub
    from muster_client.importers.importing import import_model
    from muster_client.packing.calls import pack

__all__ = [
    "Hub",
    "OperatorError",
    "Refused",
    "Rejected",
    "Unreachable",
    "WrongUsage",
    "import_model",
    "pack",
]


_MODULE_OF = {"Hub": "hub", "import_model": "importers.importing", "pack": "packing.calls"}
"""Where names are; all others are failures."""


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: the command's help needs no HTTP client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'failures')}"), name)
