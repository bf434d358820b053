"""The alert channels there are, one file each."""

from typing import assert_never

from muster_hub.alerts.channels import alertmanager, email, webhook
from muster_hub.alerts.channels.base import Channel
from muster_hub.settings.alerts import ChannelName
from muster_protocol.registry import Registry


def _channel_of(name: ChannelName) -> Channel:
    match name:
        case "webhook":
            return webhook.CHANNEL
        case "alertmanager":
            return alertmanager.CHANNEL
        case "email":
            return email.CHANNEL
        case _:
            assert_never(name)


CHANNELS = Registry[ChannelName, Channel]("alert channel", ChannelName, _channel_of)
