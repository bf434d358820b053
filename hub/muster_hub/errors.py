"""Errors of the hub's own doing, each with the stable code under which the API reports it."""

from typing import ClassVar

from muster_protocol.wire.errors import MusterError


class HubError(MusterError):
    """Something was asked of the hub that it can't do. ``code`` is part of the API."""

    code: ClassVar[str] = "failed"
    status: ClassVar[int] = 500


class NotFound(HubError):
    """There is no such thing, or none that the asker may see."""

    code = "not_found"
    status = 404


class Conflict(HubError):
    """The request contradicts what is there."""

    code = "conflict"
    status = 409


class Invalid(HubError):
    """The request can't be understood or breaks a rule; nothing was changed."""

    code = "invalid"
    status = 422


class Refused(HubError):
    """The caller may not do this."""

    code = "refused"
    status = 403


class ConfigError(HubError):
    """Settings, keys or files of the hub that don't fit; the text says what to do."""

    code = "config"


class CatalogueError(HubError):
    """The signed catalogue can't be changed as asked."""

    code = "catalogue"
    status = 409


class PreconditionFailed(HubError):
    """Somebody changed the thing since the caller last saw it."""

    code = "changed_meanwhile"
    status = 412


class NoSpace(HubError):
    """The hub's disk has no room for it."""

    code = "no_space"
    status = 507


class TooMany(HubError):
    """Come back later."""

    code = "too_many"
    status = 429
