"""Slack: an incoming webhook's message, in blocks, with plain text for notifications.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import msgspec

from muster_hub.alerts import posting, wording
from muster_hub.alerts.channels.base import Outgoing, address_of, lacks_address
from muster_hub.settings.alerts import Receiver

HEADER_CHARS_MAX = 150
SECTION_CHARS_MAX = 3000
MARKS = {
    "critical": ":red_circle:",
    "warning": ":large_yellow_circle:",
    "info": ":information_source:",
}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""All that Slack reads as more than text: no name makes a link, nor calls a whole channel."""


class SlackChannel:
    """A message in the channel that an incoming webhook was made for."""

    def lacks(self, receiver: Receiver) -> str:
        return lacks_address(receiver)

    def secret_file(self, receiver: Receiver) -> str:
        return receiver.secret_file

    def send(self, receiver: Receiver, secret: bytes, delivery: Outgoing) -> None:
        posting.post(address_of(receiver, secret), body_of(delivery), {}, secret=True)


CHANNEL = SlackChannel()


def body_of(delivery: Outgoing) -> bytes:
    """The message as Slack takes it."""
    words = wording.read(delivery)
    mark = ":white_check_mark:" if words.resolved else MARKS[words.worst]
    title = wording.shortened(words.title, HEADER_CHARS_MAX - len(mark) - 1)
    blocks: list[dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": f"{mark} {title}", "emoji": True}}
    ]
    if text := _section(words.lines):
        blocks.append({"type": "section", "text": _marked(text) | {"verbatim": True}})
    if link := wording.inbox(delivery):
        blocks.append({"type": "context", "elements": [_marked(f"<{link}|Inbox>")]})
    return msgspec.json.encode({"text": words.title.translate(_ESCAPES), "blocks": blocks})


def _marked(text: str) -> dict[str, object]:
    return {"type": "mrkdwn", "text": text}


def _section(lines: list[str]) -> str:
    """As many lines as a section takes, escaped: what is cut is cut between lines."""
    text = ""
    for line in lines:
        longer = f"{text}\n• {line.translate(_ESCAPES)}".strip()
        if len(longer) > SECTION_CHARS_MAX - 1:
            return f"{text}…"
        text = longer
    return text
