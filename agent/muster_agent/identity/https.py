"""HTTPS as a device speaks it: by the proxy if there is one, certificates judged on each socket.

``http.client`` opens a connection anew by itself where the server has closed a kept one; here that
one takes the same way and passes the same checks as the first.
"""

import http.client
import socket
import ssl
from collections.abc import Callable

from muster_agent.base.proxy import Proxies
from muster_agent.identity import tls
from muster_agent.identity.tls import TlsError
from muster_agent.trust.time import Instant


class HttpsConnection(http.client.HTTPSConnection):
    """``connect`` raises TlsError where TLS is what fails, OSError otherwise."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        proxies: Proxies,
        now: Callable[[], Instant] | None,
        *,
        what: str,
        connect_seconds: float,
        read_seconds: float,
    ) -> None:
        """``now`` is trusted time; None: whoever answers is believed for now. ``what`` names the
        peer in messages.
        """
        super().__init__(host, port, timeout=connect_seconds, context=context)
        self._tls, self._proxies, self._now = context, proxies, now
        self._what = what
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds

    def connect(self) -> None:
        plain = self._proxies.connect(self.host, self.port, self._connect_seconds)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secured = self._tls.wrap_socket(plain, server_hostname=self.host)
        except ssl.SSLError as error:
            plain.close()
            hint = self._proxies.hint(self.host, self.port)
            raise TlsError(tls.explain(error, self._what) + hint) from None
        except BaseException:
            plain.close()
            raise
        self.sock = secured
        if self._now is not None:
            tls.check_peer(secured, self._tls, self._now(), self._what)
        secured.settimeout(self._read_seconds)
