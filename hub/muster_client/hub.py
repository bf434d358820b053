"""A hub, as `muster` and Python use it: each command is one call here, by the same name."""

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from muster_client.answers import Event, VersionDetail
from muster_client.packing.calls import pack
from muster_client.packing.options import plain_name, settled
from muster_client.profile import Profile, check, resolve
from muster_client.resources.access import ApiTokens, AuditLog
from muster_client.resources.agent_releases import AgentReleases
from muster_client.resources.alerts import Alerts
from muster_client.resources.aliases import ModelAliases
from muster_client.resources.assignments import Assignments
from muster_client.resources.devices import Devices
from muster_client.resources.drift import Drifts
from muster_client.resources.events import follow
from muster_client.resources.feed_settings import FeedSettings
from muster_client.resources.fleet import Change, Fleet, changes, make
from muster_client.resources.loops import Loops
from muster_client.resources.models import WAIT_SECONDS, Models, Progress
from muster_client.resources.overview import Overview, Who
from muster_client.resources.people import People
from muster_client.resources.policies import Policies
from muster_client.resources.releases import Releases
from muster_client.resources.rollouts import Rollouts
from muster_client.resources.sampling import Sampling
from muster_client.resources.sources import Sources
from muster_client.resources.trust import Trust
from muster_client.resources.webhooks import Webhooks
from muster_client.transport import Api, connect

if TYPE_CHECKING:
    from muster_client.packing.packed import Packed


class Hub:
    """One hub over its HTTP API. Use it as a context manager, or ``close`` it.

    Every call raises ``Refused`` when the hub says no (``status`` and ``problem`` say why),
    ``Unreachable`` when none answers, and ``WrongUsage`` for what can't be asked at all; all are
    ``OperatorError``, one line with what to do about it. Lists are iterators over the hub's pages.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        ca: str | Path | None = None,
        ca_pem: str = "",
        timeout_seconds: float | None = None,
    ) -> None:
        """``ca`` is a PEM file of the authority that signs the hub's certificate, ``ca_pem`` the
        same as text; without either the system's count. ``timeout_seconds``: how long an answer may
        take; None: as long as usual. Nothing is asked of the hub yet."""
        profile = Profile(hub=url, token=token, ca=str(ca) if ca else "", ca_pem=ca_pem)
        check(profile)
        self._http = connect(profile, timeout_seconds)
        api = Api(self._http)
        self._api = api
        self.devices = Devices(api)
        self.feed_settings = FeedSettings(api)
        self.models = Models(api)
        self.aliases = ModelAliases(api)
        self.policies = Policies(api)
        self.releases = Releases(api)
        self.sources = Sources(api)
        self.loops = Loops(api)
        self.sampling = Sampling(api)
        self.assignments = Assignments(api)
        self.agents = AgentReleases(api)
        self.rollouts = Rollouts(api)
        self.drift = Drifts(api)
        self.alerts = Alerts(api)
        self.tokens = ApiTokens(api)
        self.users = People(api)
        self.audit = AuditLog(api)
        self.webhooks = Webhooks(api)
        self.trust = Trust(api)

    @classmethod
    def from_profile(
        cls,
        file: str | Path | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        ca: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Self:
        """A hub as `muster` finds it: what is given here, then ``MUSTER_HUB``, ``MUSTER_TOKEN`` and
        ``MUSTER_CA``, then a profile file (``file``, or the user's own)."""
        flags = {"hub": url, "token": token, "ca": ca}
        profile = resolve(flags, os.environ, Path(file) if file is not None else None)
        return cls(
            profile.hub,
            profile.token,
            ca=profile.ca,
            ca_pem=profile.ca_pem,
            timeout_seconds=timeout_seconds,
        )

    @property
    def url(self) -> str:
        """Where the hub is, without a slash at the end."""
        return self._api.url

    def push(
        self,
        bundle: str | Path,
        data: Any = None,
        *,
        wait_seconds: float | None = WAIT_SECONDS,
        progress: Progress | None = None,
        packed: Callable[["Packed"], object] = lambda _packed: None,
        **options: Any,
    ) -> VersionDetail:
        """Push a bundle's folder, or pack a model file and push that.

        ``data`` and ``options`` are those of ``muster_client.pack``; without a ``version`` it is
        the next whole number here. ``packed`` gets what packing found. For the rest see
        ``models.push``.
        """
        path = Path(bundle)
        if not path.is_file():
            return self.models.push(path, wait_seconds=wait_seconds, progress=progress)
        config = options.pop("config", None)
        chosen = settled(path, options, Path(config) if config is not None else None)
        with tempfile.TemporaryDirectory(prefix="muster-push-") as folder:
            if not chosen.version:
                name = chosen.name or plain_name(path.stem)
                options["version"] = self.models.next_version(name)
            found = pack(path, data, out=Path(folder) / "bundle", config=config, **options)
            packed(found)
            return self.models.push(found.folder, wait_seconds=wait_seconds, progress=progress)

    def status(self, selector: str | None = None) -> Overview:
        """The fleet at a glance, or the part of it that a selector matches."""
        found: Overview = self._api.get("/overview", selector=selector)
        return found

    def whoami(self) -> Who:
        """Whom the hub takes you for, and what you are limited to."""
        found: Who = self._api.get("/whoami")
        return found

    def tail(
        self,
        selector: str | None = None,
        *,
        device: str | None = None,
        kinds: Collection[str] = (),
    ) -> Iterator[Event]:
        """Events of the fleet as they happen, without an end; only of devices that a selector
        matches, of one ``device``, of these ``kinds``."""
        return follow(self._api, selector=selector, device=device, kinds=kinds)

    def compare(self, fleet: Fleet, *, prune: bool = False) -> list[Change]:
        """What would make the hub as ``fleet`` says. Nothing is changed; what the hub would refuse
        is refused here. With ``prune`` what was assigned by hand in a slot it names goes, too."""
        return changes(self._api, fleet, prune=prune)

    def apply(self, due: Iterable[Change]) -> None:
        """Make changes that ``compare`` found, in their order."""
        make(self._api, due)

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
