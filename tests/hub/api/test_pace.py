"""How fast may be asked: strangers share what their address has, and nobody else's."""

import pytest

from muster_hub.api.pace import _address
from muster_hub.errors import ConfigError
from muster_hub.settings import config
from muster_hub.settings.config import Http
from support.hub_kit import API, open_kit

SLOW = Http(strangers_per_second=0.01)
"""A stranger may ask once, and again in 100 seconds."""


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path, settings={"http": SLOW})
    yield made
    made.close()


def ask(kit, headers=None, path="/whoami", **more):
    return kit.http.get(f"{API}{path}", headers=(headers or {}) | more).status_code


def flood(kit, **headers):
    """Use up what strangers behind this address may ask."""
    answers = [ask(kit, **headers) for _ in range(4)]
    assert answers[-1] == 429


GUESSES = ("Bearer mst_guess", "Bearer a.b.c", "Bearer", "Basic x", "Bearer cam-1:9999999999:00")


def test_strangers_do_not_lock_out_a_token_behind_the_same_address(kit):
    held = kit.as_("viewer")
    flood(kit)
    assert ask(kit, held) == 200, "a token that this address never showed before"
    for guess in GUESSES:
        assert ask(kit, {"Authorization": guess}) == 429
    assert ask(kit, held) == 200
    assert [ask(kit), ask(kit, kit.as_("operator"))] == [429, 200]


def test_nor_do_they_lock_out_a_device_that_fetches_chunks(kit):
    assert kit.enrol(kit.enrol_token(device="cam-1")).status_code == 200
    token = kit.hub.chunk_token("cam-1", int(kit.clock()) + 60)
    flood(kit)
    path = f"/chunks/{'ab' * 32}"
    assert ask(kit, {"Authorization": f"Bearer {token}"}, path) == 404, "looked for, not refused"
    kit.clock.now += 61
    assert ask(kit, {"Authorization": f"Bearer {token}"}, path) == 429


def test_a_revoked_token_is_a_stranger_again(kit):
    held = kit.as_("viewer")
    admin = kit.as_("admin")
    assert ask(kit, held) == 200
    (row,) = [
        item
        for item in kit.http.get(f"{API}/tokens", headers=admin).json()["items"]
        if item["name"] == "a-viewer"
    ]
    kit.http.post(f"{API}/tokens/{row['id']}/revoke", headers=admin)
    flood(kit)
    assert ask(kit, held) == 429


def test_a_token_s_own_pace_is_kept_whatever_its_address_has_left(tmp_path):
    limits = Http(strangers_per_second=0.01, reads_per_second=1.0)
    kit = open_kit(tmp_path, settings={"http": limits})
    try:
        held = kit.as_("viewer")
        flood(kit)
        answers = [ask(kit, held) for _ in range(8)]
        assert answers[:4] == [200] * 4
        assert 429 in answers
    finally:
        kit.close()


def test_nobody_is_believed_who_they_forward_for_unless_named(kit):
    flood(kit, **{"X-Forwarded-For": "198.51.100.1"})
    assert ask(kit, **{"X-Forwarded-For": "198.51.100.2"}) == 429, "from the hub's own machine"


def test_a_proxy_that_is_named_tells_its_clients_apart(tmp_path):
    limits = Http(strangers_per_second=0.01, trusted_proxies=("127.0.0.0/8",))
    kit = open_kit(tmp_path, settings={"http": limits})
    try:
        flood(kit, **{"X-Forwarded-For": "198.51.100.1"})
        assert ask(kit, **{"X-Forwarded-For": "198.51.100.2"}) == 401
        claimed = {"X-Forwarded-For": "203.0.113.9, 198.51.100.1"}
        assert ask(kit, **claimed) == 429, "only the last that is no proxy counts"
    finally:
        kit.close()


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_a_proxy_is_named_by_an_address_or_a_network(tmp_path, text):
    (tmp_path / config.FILE).write_text(f'[http]\ntrusted_proxies = ["{text}"]\n')
    with pytest.raises(ConfigError, match="trusted_proxies"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("host", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("?", "?", True),
    ],
)
def test_the_addresses_of_one_site_share_what_they_may_ask(host, other, same):
    found = {_address({"client": (each, 1)}) for each in (host, other)}
    assert (len(found) == 1) == same
