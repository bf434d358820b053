"""Pictures of a camera that is asked for them."""

from muster_agent.base.feed_settings import SourceSettings
from muster_agent.base.picture_settings import CameraSource
from muster_agent.feeds.images.camera import CameraPictures
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedPlace, Source


class CameraKind:
    """Sources of kind ``camera``. What is needed depends on what is opened."""

    needs = ("", "")

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:
        assert isinstance(settings, CameraSource)
        return CameraPictures(settings, inlet, place)


KIND = CameraKind()
