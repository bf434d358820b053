"""Pictures that a camera's software drops into a folder."""

from muster_agent.base.feed_settings import SourceSettings
from muster_agent.base.picture_settings import ImagesSource
from muster_agent.feeds.images.folder import DroppedPictures
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedPlace, Source


class ImagesKind:
    """Sources of kind ``images``."""

    needs = ("PIL", "images")

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:
        assert isinstance(settings, ImagesSource)
        return DroppedPictures(settings, inlet, place)


KIND = ImagesKind()
