"""What Muster adds to TUF's metadata: fields that the hub signs and a device reads."""

from typing import Final

DIRECTOR_EPOCH_FIELD: Final = "x-muster-director-epoch"
"""In ``signed`` of targets: generations of directives count within it."""
CONTACT_FIELD: Final = "x-muster-contact"
"""In ``signed`` of targets: where devices may be sent (``contact.Approved``)."""
ISSUED_FIELD: Final = "x-muster-issued"
"""In ``signed`` of every role: when it was signed, in seconds since 1970. The only thing in
metadata that a device takes as a floor of time."""
