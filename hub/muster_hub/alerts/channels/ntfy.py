"""ntfy: a push message to phones, published as JSON.

https://docs.ntfy.sh/publish/#publish-as-json
"""

from typing import Any

import msgspec

from muster_hub.alerts import posting, wording
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.settings.alerts import Receiver

MESSAGE_BYTES_MAX = 4096
"""A server makes a file of what is longer."""
TITLE_CHARS_MAX = 250
PRIORITIES = {"critical": 5, "warning": 4, "info": 3}
RESOLVED_PRIORITY = 2
TAGS = {"critical": "rotating_light", "warning": "warning", "info": "information_source"}


class NtfyChannel:
    """A message under a topic of the public server or of one's own."""

    def lacks(self, receiver: Receiver) -> str:
        if not receiver.url:
            return "needs a `url`, such as https://ntfy.sh"
        return "" if receiver.topic else "needs a `topic`"

    def secret_file(self, receiver: Receiver) -> str:
        return receiver.secret_file

    def send(self, receiver: Receiver, secret: bytes, delivery: Outgoing) -> None:
        headers = {"Authorization": f"Bearer {secret.decode()}"} if secret else {}
        posting.post(receiver.url, body_of(delivery, receiver.topic), headers)


CHANNEL = NtfyChannel()


def body_of(delivery: Outgoing, topic: str) -> bytes:
    """The message as a server takes it."""
    words = wording.read(delivery)
    text = "\n".join(words.lines) or words.title
    message: dict[str, Any] = {
        "topic": topic,
        "title": wording.shortened(words.title, TITLE_CHARS_MAX),
        "message": text.encode()[:MESSAGE_BYTES_MAX].decode(errors="ignore"),
        "priority": RESOLVED_PRIORITY if words.resolved else PRIORITIES[words.worst],
        "tags": ["white_check_mark" if words.resolved else TAGS[words.worst]],
    }
    if link := wording.inbox(delivery):
        message["click"] = link
    return msgspec.json.encode(message)
