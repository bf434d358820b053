"""Signing reports with the device's identity key."""

import logging
from collections.abc import Callable
from pathlib import Path

from muster_agent.identity import identity
from muster_agent.identity.hardware_key import HardwareKeyError
from muster_agent.identity.identity import IdentityError
from muster_protocol.wire import proof
from muster_protocol.wire.messages import Report

_log = logging.getLogger(__name__)


def prover(device: str, directory: Path) -> Callable[[Report], bytes]:
    """Signs with the key in force, read anew each time: it may have been renewed.

    An unreadable key gives an empty proof: the report still goes out, unproved.
    """

    def prove(report: Report) -> bytes:
        try:
            key = identity.read_key(identity.key_path(directory))
            return key.sign(proof.statement(device, report))
        except (IdentityError, HardwareKeyError) as error:
            _log.warning("the report goes out unproved: %s", error)
            return b""

    return prove
