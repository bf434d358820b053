"""The person who signs releases, with keys that no hub ever has."""

from pathlib import Path

from muster_hub.demo.fleet import program
from muster_hub.demo.processes import run

ROLES = ("root", "targets", "release")


class OfflineKeys:
    """Root, targets and release keys in a folder of their own, as on a machine that is offline."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._requests = 0
        for role in ROLES:
            run([program("muster-hub"), "keygen", str(directory / f"{role}.key")])

    @property
    def public(self) -> list[str]:
        """What `muster-hub init` is told of them."""
        return [
            word
            for role in ROLES
            for word in (f"--{role}-public", str(self._directory / f"{role}.key.pub"))
        ]

    def sign(self, hub: Path) -> str:
        """Fetch what waits at the hub in this folder, sign it and bring it back; what was signed,
        in the words that the person read."""
        self._requests += 1
        folder = self._directory / f"request-{self._requests}"
        run([program("muster-hub"), "signing-request", str(folder), "--data", str(hub)])
        said = []
        files = sorted(folder.glob("*.json"))
        for file in files:
            role = file.stem if file.stem in ROLES else "release"
            key = self._directory / f"{role}.key"
            said.append(run([program("muster-hub"), "sign", "--key", str(key), str(file)]))
        if files:
            run([program("muster-hub"), "add-signatures", "--data", str(hub), *map(str, files)])
        return "".join(said)
