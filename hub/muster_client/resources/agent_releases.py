"""Releases of the agent itself, in the hub's catalogue."""

from pathlib import Path
from typing import TypedDict

from muster_client.failures import WrongUsage
from muster_client.resources.base import Resource
from muster_client.transport import part
from muster_protocol.wire import agent_release
from muster_protocol.wire.errors import ProtocolError


class AgentRelease(TypedDict):
    """What the hub says of a release, and how many devices say that they run it."""

    version: str
    size_bytes: int
    issued: int
    extras: list[str]
    listing: str
    created: float
    created_by: str
    devices: int


class AgentWheel(TypedDict):
    """A file that a release installs, by its hash."""

    name: str
    size_bytes: int
    sha256: str


class AgentReleaseDetail(AgentRelease):
    """A release with the files that it installs."""

    wheels: list[AgentWheel]


class AgentReleases(Resource):
    """Releases by their version."""

    def push(self, file: str | Path) -> AgentRelease:
        """Push a file that `muster-hub agent-release make` wrote; the same again is the same."""
        path = Path(file)
        try:
            with path.open("rb") as opened:
                start = opened.read(len(agent_release.HEAD) + agent_release.LENGTH_BYTES)
                agent_release.envelope_length(start)
                opened.seek(0)
                found: AgentRelease = self._api.send_file("/agent-releases", path.name, opened)
        except OSError as error:
            raise WrongUsage(f"{path}: {error.strerror}") from None
        except ProtocolError as error:
            raise WrongUsage(f"{path}: {error}") from None
        return found

    def list(self) -> list[AgentRelease]:
        """Every release, the newest first, and how many devices say that they run it."""
        found: list[AgentRelease] = self._api.get("/agent-releases")
        return found

    def show(self, version: str) -> AgentReleaseDetail:
        """One release, with its wheels."""
        found: AgentReleaseDetail = self._api.get(f"/agent-releases/{part(version)}")
        return found
