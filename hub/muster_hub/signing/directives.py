"""Signing directives with the director key, in a DSSE envelope. Pure."""

from collections.abc import Callable

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signer

from muster_protocol.wire import directive, limits
from muster_protocol.wire.directive import Directive
from muster_protocol.wire.errors import LimitError


class DirectiveSigner:
    """Signs directives with the director's key, for the engine."""

    def __init__(self, signer: Signer | Callable[[], Signer]) -> None:
        """With a callable the key is asked for each time: it may have been rotated."""
        self._signer = signer

    @property
    def keyid(self) -> str:
        """Of the key that signs now."""
        return self._now().public_key.keyid

    def _now(self) -> Signer:
        return self._signer if isinstance(self._signer, Signer) else self._signer()

    def sign(self, wanted: Directive) -> bytes:
        """The envelope as JSON; raises LimitError when a device would refuse its size."""
        envelope = Envelope(directive.encode(wanted), directive.PAYLOAD_TYPE, {})
        envelope.sign(self._now())
        data = msgspec.json.encode(envelope.to_dict())
        if len(data) > limits.DIRECTIVE_BYTES_MAX:
            raise LimitError(
                f"the directive for {wanted.device} is {len(data)} bytes, "
                f"the limit is {limits.DIRECTIVE_BYTES_MAX}: give it fewer slots"
            )
        return data
