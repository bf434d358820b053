"""What can go wrong for an operator, as one line and an exit code."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from muster_protocol.wire.errors import MusterError


class Exit(IntEnum):
    """Exit codes of `muster`, named in its help."""

    DONE = 0
    REFUSED = 1
    """The hub refused, or what was waited for failed."""
    USAGE = 2
    UNREACHABLE = 3
    """No hub answered: nothing is known about what it did."""


class OperatorError(MusterError):
    """Ends the command with this one line and code."""

    def __init__(self, message: str, code: Exit = Exit.REFUSED) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


def from_problem(status: int, problem: Mapping[str, Any], where: str) -> OperatorError:
    """One line from an RFC 9457 problem document; ``where`` is the request it answers."""
    title = str(problem.get("title") or "the hub refused")
    detail = str(problem.get("detail") or "")
    faults = problem.get("errors")
    if isinstance(faults, list) and faults:
        detail = "; ".join(filter(None, [detail, *(_fault(fault) for fault in faults[:5])]))
    says = f"{title}: {detail}" if detail and detail != title else title
    return OperatorError(f"{says} ({where}, HTTP {status}){_advice(status)}")


def _fault(fault: Any) -> str:
    if not isinstance(fault, Mapping):
        return str(fault)
    place = fault.get("loc") or fault.get("pointer") or fault.get("field") or ""
    if isinstance(place, list | tuple):
        place = ".".join(str(step) for step in place)
    message = fault.get("msg") or fault.get("detail") or fault.get("message") or ""
    return f"{place}: {message}" if place else str(message)


def _advice(status: int) -> str:
    match status:
        case 401:
            return ". Give a valid token with --token, MUSTER_TOKEN or --profile FILE"
        case 403:
            return ". Use a token whose role allows this"
        case 413:
            return ". Send less"
        case 429 | 503:
            return ". Try again in a moment"
    return ""
