"""Who may sign, who has signed what waits, and what ends soon."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from muster_client.answers import Endings, Signing
from muster_client.failures import WrongUsage
from muster_client.resources.base import Resource

ABOUT = "about/request.json"
"""Where `muster-hub sign` looks, beside the files, for who may sign and what they approve."""


class Trust(Resource):
    """Signatures and expiry, of the hub and the fleet."""

    def show(self) -> Signing:
        """Who may sign each role and until when it is good, and who has signed what waits."""
        found: Signing = self._api.get("/signatures")
        return found

    def expiring(self, days: float = 90.0) -> Endings:
        """Certificates and metadata that end within so many days or have ended, soonest first."""
        found: Endings = self._api.get("/expiries", days=days)
        return found

    def request(self, folder: str | Path) -> list[Path]:
        """Write what waits for signatures as files for `muster-hub sign`, in signing order."""
        found = self._api.get("/signing-request")
        out, written = Path(folder), []
        try:
            (out / ABOUT).parent.mkdir(parents=True, exist_ok=True)
            (out / ABOUT).write_bytes(msgspec.json.encode(found["about"]))
            for role, draft in found["roles"].items():
                written.append(out / f"{Path(role).name}.json")
                written[-1].write_bytes(draft.encode())
        except OSError as error:
            raise WrongUsage(f"{folder}: {error.strerror}") from None
        return written

    def submit(self, files: Iterable[str | Path]) -> list[str]:
        """Bring signed files to the hub; the roles that still wait.

        Raises OperatorError for a file that nothing waits for; those before it were taken.
        """
        read, waiting = [], list[str]()
        for file in map(Path, files):
            try:
                read.append(file.read_bytes().decode())
            except (OSError, UnicodeDecodeError) as error:
                raise WrongUsage(f"{file}: {error}") from None
        for metadata in read:
            waiting = list(self._api.post("/signatures", {"metadata": metadata})["roles"])
        return waiting
