"""The alert channels there are, one file each."""

from typing import assert_never

from muster_hub.alerts.channels import alertmanager, email, ntfy, pagerduty, slack, teams, webhook
from muster_hub.alerts.channels.base import Channel
from muster_hub.settings.alerts import ChannelName
from muster_protocol.registry import Registry


def _channel_of(name: ChannelName) -> Channel:  # noqa: PLR0911 - each channel is a case
    match name:
        case "webhook":
            return webhook.CHANNEL
        case "alertmanager":
            return alertmanager.CHANNEL
        case "email":
            return email.CHANNEL
        case "slack":
            return slack.CHANNEL
        case "teams":
            return teams.CHANNEL
        case "pagerduty":
            return pagerduty.CHANNEL
        case "ntfy":
            return ntfy.CHANNEL
        case _:
            assert_never(name)


CHANNELS = Registry[ChannelName, Channel]("alert channel", ChannelName, _channel_of)
