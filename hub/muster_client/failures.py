"""What can go wrong for an operator, as one line and an exit code. Pure."""

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from muster_protocol.wire.errors import MusterError

if TYPE_CHECKING:
    from muster_client.answers import VersionDetail


class Exit(IntEnum):
    """Exit codes of `muster`, named in its help."""

    DONE = 0
    """What was asked for is done."""
    REFUSED = 1
    """The hub refused, or what was waited for failed."""
    USAGE = 2
    """The command makes no sense as it was given."""
    UNREACHABLE = 3
    """No hub answered: nothing is known about what it did."""


class OperatorError(MusterError):
    """Ends the command with this one line and code."""

    def __init__(self, message: str, code: Exit = Exit.REFUSED) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


class WrongUsage(OperatorError):
    """What was asked for can't be asked at all; no hub was told."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.USAGE)


class Unreachable(OperatorError):
    """No hub answered: nothing is known about what it did."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.UNREACHABLE)


class Refused(OperatorError):
    """The hub said no."""

    def __init__(self, message: str, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        """Of the HTTP answer."""
        self.problem = problem
        """The RFC 9457 document, whose ``code`` is stable; empty when there was none."""


class Rejected(OperatorError):
    """A version failed the hub's check."""

    def __init__(self, message: str, version: "VersionDetail") -> None:
        super().__init__(message)
        self.version = version
        """As the hub shows it, with what each build's check found."""


class Lacking(OperatorError):
    """A library of an extra isn't installed."""

    def __init__(self, what: str, missing: str, extra: str) -> None:
        super().__init__(
            f"{what} needs {missing!r}, which is not installed: pip install 'muster-edge[{extra}]'",
            Exit.USAGE,
        )


def from_problem(status: int, problem: Mapping[str, Any], where: str) -> Refused:
    """One line from an RFC 9457 problem document; ``where`` is the request it answers."""
    title = str(problem.get("title") or "the hub refused")
    detail = str(problem.get("detail") or "")
    faults = problem.get("errors")
    if isinstance(faults, list) and faults:
        detail = "; ".join(filter(None, [detail, *(_fault(fault) for fault in faults[:5])]))
    says = f"{title}: {detail}" if detail and detail != title else title
    return Refused(f"{says} ({where}, HTTP {status}){_advice(status)}", status, problem)


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
