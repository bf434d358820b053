"""Who may sign, who has signed what waits, and what ends soon."""

from muster_client.answers import Endings, Signing
from muster_client.resources.base import Resource


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
