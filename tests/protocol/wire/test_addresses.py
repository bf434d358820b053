"""Host and port as URLs and messages have them."""

from urllib.parse import urlsplit

import pytest

from muster_protocol.wire.addresses import joined


@pytest.mark.parametrize("host", ["hub.plant", "10.0.0.1", "::1", "fd00::a:b"])
def test_a_url_of_any_host_gives_host_and_port_back(host):
    parts = urlsplit(f"https://{joined(host, 8443)}")
    assert (parts.hostname, parts.port) == (host, 8443)
