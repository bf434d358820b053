"""Signing directives with the director key, in a DSSE envelope."""

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signer

from muster_protocol import directive, limits
from muster_protocol.directive import Directive
from muster_protocol.errors import LimitError


class Directives:
    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def sign(self, wanted: Directive) -> bytes:
        """The envelope as JSON; raises LimitError when a device would refuse its size."""
        envelope = Envelope(directive.encode(wanted), directive.PAYLOAD_TYPE, {})
        envelope.sign(self._signer)
        data = msgspec.json.encode(envelope.to_dict())
        if len(data) > limits.DIRECTIVE_BYTES_MAX:
            raise LimitError(
                f"the directive for {wanted.device} is {len(data)} bytes, "
                f"the limit is {limits.DIRECTIVE_BYTES_MAX}: give it fewer slots"
            )
        return data
