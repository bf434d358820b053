"""Each answer on a line of a file."""

from muster_agent.base.feed_settings import FileSink, SinkSettings
from muster_agent.feeds.answers import check_value
from muster_agent.feeds.files.lines import FileAnswers
from muster_agent.feeds.sinks.base import Sink
from muster_agent.feeds.sources.base import FeedPlace
from muster_protocol.wire.manifest import Manifest


class FileSinkKind:
    """Sinks of kind ``file``."""

    needs = ("", "")

    def make(self, settings: SinkSettings, place: FeedPlace) -> Sink:
        assert isinstance(settings, FileSink)
        return FileAnswers(settings, place)

    def check(self, settings: SinkSettings, manifest: Manifest) -> None:
        assert isinstance(settings, FileSink)
        check_value(settings.value, manifest)


KIND = FileSinkKind()
