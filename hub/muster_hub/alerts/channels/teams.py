"""Microsoft Teams: an adaptive card, as a workflow's webhook takes it.

https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
"""

from typing import Any

import msgspec

from muster_hub.alerts import posting, wording
from muster_hub.alerts.channels.base import Outgoing, address_of, lacks_address
from muster_hub.settings.alerts import Receiver

CARD = "application/vnd.microsoft.card.adaptive"
VERSION = "1.4"
COLOURS = {"critical": "Attention", "warning": "Warning", "info": "Default"}


class TeamsChannel:
    """A card in the channel or chat that a workflow posts to."""

    def lacks(self, receiver: Receiver) -> str:
        return lacks_address(receiver)

    def secret_file(self, receiver: Receiver) -> str:
        return receiver.secret_file

    def send(self, receiver: Receiver, secret: bytes, delivery: Outgoing) -> None:
        posting.post(address_of(receiver, secret), body_of(delivery), {}, secret=True)


CHANNEL = TeamsChannel()


def body_of(delivery: Outgoing) -> bytes:
    """The message as a workflow's trigger takes it.

    All text stands in runs, which Teams shows as they are: in a text block a name could be a link.
    """
    words = wording.read(delivery)
    colour = "Good" if words.resolved else COLOURS[words.worst]
    title = {"weight": "Bolder", "size": "Medium", "color": colour}
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": VERSION,
        "msteams": {"width": "Full"},
        "body": [_text(words.title, **title), *(_text(line) for line in words.lines)],
    }
    if link := wording.inbox(delivery):
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Inbox", "url": link}]
    attachment = {"contentType": CARD, "contentUrl": None, "content": card}
    return msgspec.json.encode({"type": "message", "attachments": [attachment]})


def _text(text: str, **style: str) -> dict[str, Any]:
    run = {"type": "TextRun", "text": wording.shortened(text, wording.LINE_CHARS_MAX)}
    return {"type": "RichTextBlock", "inlines": [run | style]}
