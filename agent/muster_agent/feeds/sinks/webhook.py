"""Each answer as a posted body."""

from muster_agent.base.feed_settings import SinkSettings, WebhookSink
from muster_agent.feeds.answers import check_value
from muster_agent.feeds.files.webhook import WebhookAnswers
from muster_agent.feeds.sinks.base import Sink
from muster_agent.feeds.sources.base import FeedPlace
from muster_protocol.wire.manifest import Manifest


class WebhookSinkKind:
    """Sinks of kind ``webhook``."""

    needs = ("", "")

    def make(self, settings: SinkSettings, place: FeedPlace) -> Sink:
        assert isinstance(settings, WebhookSink)
        return WebhookAnswers(settings, place)

    def check(self, settings: SinkSettings, manifest: Manifest) -> None:
        assert isinstance(settings, WebhookSink)
        check_value(settings.value, manifest)


KIND = WebhookSinkKind()
