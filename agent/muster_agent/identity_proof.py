"""Signing reports with the device's identity key."""

import logging
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from muster_agent import identity
from muster_agent.identity import IdentityError
from muster_protocol import proof
from muster_protocol.messages import Report

_log = logging.getLogger(__name__)


def prover(device: str, directory: Path) -> Callable[[Report], bytes]:
    """Signs with the key in force, read anew each time: it may have been renewed.

    An unreadable key gives an empty proof: the report still goes out, unproved.
    """

    def prove(report: Report) -> bytes:
        try:
            key = identity.read_key(directory / identity.KEY_FILE)
        except IdentityError as error:
            _log.warning("the report goes out unproved: %s", error)
            return b""
        return key.sign(proof.statement(device, report), ec.ECDSA(hashes.SHA256()))

    return prove
