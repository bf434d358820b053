"""The trace that a rollout's messages belong to, as W3C's Trace Context writes it. Pure.

Whoever doesn't trace passes it on or leaves it out; it decides nothing.
"""

from typing import Annotated

from msgspec import Meta

FIELD = "traceparent"
"""As ``understands`` names the field of a directive's slot."""
Traceparent = Annotated[
    str, Meta(max_length=55, pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
]
"""``version-trace-span-flags``: the trace, and the span that caused what follows."""
SECONDS = "_seconds"
"""What ends the names of an event's values that say how long a step of an update took."""
