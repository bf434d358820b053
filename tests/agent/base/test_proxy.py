"""Which way a connection takes, and what is said of a proxy that lets nobody through."""

import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.base import config
from muster_agent.base.proxy import HEAD_BYTES_MAX, Proxies, Proxy, ProxyError, chosen, matches
from muster_agent.base.settings import ProxySettings
from support.connect_proxy import ConnectProxy
from support.ports import free_port

SECONDS = 60.0
ADA = {"ada": "secret-lace"}


@pytest.fixture
def echo():
    """A port that answers with what it gets."""
    server = socket.create_server(("127.0.0.1", 0))
    port: int = server.getsockname()[1]

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.sendall(client.recv(100))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield port
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(SECONDS)


def through(url: str, tmp_path: Path, password: str = "", **settings) -> Proxies:
    if password:
        (tmp_path / "password").write_text(password)
        settings |= {"username": "ada", "password_file": "password"}
    return chosen(ProxySettings(url=url, **settings), tmp_path, {})


def said(proxies: Proxies, host: str, port: int) -> str:
    with pytest.raises(ProxyError) as error:
        proxies.connect(host, port, SECONDS)
    assert "\n" not in str(error.value)
    assert "secret-lace" not in str(error.value)
    return str(error.value)


def test_a_connection_goes_through_the_proxy_which_resolves_the_name(tmp_path, echo):
    with ConnectProxy(users=ADA, names={"hub.plant": "127.0.0.1"}) as proxy:
        proxies = through(proxy.url, tmp_path, "secret-lace\n")
        with proxies.connect("hub.plant", echo, SECONDS) as opened:
            opened.sendall(b"hello")
            assert opened.recv(100) == b"hello"
        assert proxy.targets == [f"hub.plant:{echo}"]
        (tmp_path / "password").write_text("changed")
        assert "refuses user 'ada' (407" in said(proxies, "hub.plant", echo)


def test_a_refusal_says_what_the_proxy_wants(tmp_path, echo):
    with ConnectProxy(users=ADA) as proxy:
        words = said(through(proxy.url, tmp_path), "127.0.0.1", echo)
        assert "wants a user and a password (407" in words
    with ConnectProxy(users={}, schemes=("Negotiate", "NTLM")) as proxy:
        words = said(through(proxy.url, tmp_path, "secret-lace"), "127.0.0.1", echo)
        assert "wants negotiate, ntlm" in words
    with ConnectProxy(users={"ada": "another"}, wrong=401) as proxy:
        words = said(through(proxy.url, tmp_path, "secret-lace"), "127.0.0.1", echo)
        assert "refuses user 'ada' (401" in words
    with ConnectProxy(ports=frozenset({443})) as proxy:
        words = said(through(proxy.url, tmp_path), "127.0.0.1", echo)
        assert f"refuses to connect to 127.0.0.1:{echo} (403 Forbidden)" in words
    with ConnectProxy() as proxy:
        words = said(through(proxy.url, tmp_path), "127.0.0.1", free_port())
        assert "does not reach 127.0.0.1" in words


def test_a_proxy_that_is_not_there_or_is_none_is_named_with_who_names_it(tmp_path, echo):
    absent = free_port()
    words = said(through(f"http://127.0.0.1:{absent}", tmp_path), "hub", 8883)
    assert f"the proxy 127.0.0.1:{absent} (agent.toml) is not reached" in words
    environment = {"HTTPS_PROXY": f"127.0.0.1:{absent}"}
    words = said(chosen(ProxySettings(), tmp_path, environment), "hub", 8883)
    assert f"the proxy 127.0.0.1:{absent} (HTTPS_PROXY) is not reached" in words
    words = said(through(f"http://127.0.0.1:{echo}", tmp_path), "hub", 8883)
    assert "does not answer as an HTTP proxy" in words or "broke off on CONNECT hub:8883" in words
    words = said(through(f"http://127.0.0.1:{echo}", tmp_path), "hub\r\nHost: x", 8883)
    assert "is no host name" in words
    missing = through("http://127.0.0.1:1", tmp_path, username="ada", password_file="nothing")
    assert "nothing: No such file" in said(missing, "hub", 8883)


@given(head=st.binary(max_size=300))
def test_whatever_answers_connect_the_reason_is_one_line(head):
    server = socket.create_server(("127.0.0.1", 0))
    proxies = Proxies(Proxy("127.0.0.1", server.getsockname()[1]))

    def answer() -> None:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(head)
            client.shutdown(socket.SHUT_WR)
            client.recv(4096)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        with proxies.connect("hub", 1, SECONDS):
            assert head.startswith((b"HTTP/1.0 2", b"HTTP/1.1 2"))
    except ProxyError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
    thread.join(SECONDS)
    server.close()


def test_an_endless_answer_is_cut(tmp_path):
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def answer() -> None:
        client, _ = server.accept()
        with client:
            client.sendall(b"x" * (HEAD_BYTES_MAX + 1))
            client.recv(1)

    threading.Thread(target=answer, daemon=True).start()
    words = said(through(f"http://127.0.0.1:{port}", tmp_path), "hub", 1)
    assert "does not answer as an HTTP proxy" in words
    server.close()


def test_agent_toml_goes_before_the_environment_and_this_machine_needs_no_proxy(tmp_path):
    environment = {
        "HTTPS_PROXY": "http://bob:pass%40word@upper:81",
        "https_proxy": "http://lower:3128",
        "NO_PROXY": "intern.example, 10.0.0.0/8",
    }
    own = chosen(ProxySettings(url="http://own:8080"), tmp_path, environment)
    for host in ("hub.example", "a.intern.example", "127.0.0.1"):
        assert str(own.way(host, 443)) == "own:8080"
    given = chosen(ProxySettings(no_proxy=("near",)), tmp_path, environment)
    assert str(given.way("hub.example", 443)) == "lower:3128"
    for host in ("a.intern.example", "10.1.2.3", "near", "127.0.0.1", "::1", "localhost"):
        assert given.way(host, 443) is None
    del environment["https_proxy"]
    upper = chosen(ProxySettings(), tmp_path, environment).way("hub.example", 443)
    assert upper is not None
    assert upper.authorization() == "Basic Ym9iOnBhc3NAd29yZA=="
    assert "pass@word" not in repr(upper)
    none = chosen(ProxySettings(no_proxy=("*",)), tmp_path, environment)
    assert none.way("hub.example", 443) is None
    assert chosen(ProxySettings(), tmp_path, {}).way("hub.example", 443) is None


def test_an_environment_that_makes_no_sense_is_said_without_its_secrets(tmp_path):
    for url in ("socks5://ada:secret-lace@p:1", "https://ada:secret-lace@p", "http://p:99999"):
        proxies = chosen(ProxySettings(), tmp_path, {"HTTPS_PROXY": url})
        assert "HTTPS_PROXY of the environment: " in said(proxies, "hub", 443)
        assert proxies.way("127.0.0.1", 443) is None


@pytest.mark.parametrize(
    ("entry", "host", "port", "is_meant"),
    [
        ("example.com", "example.com", 443, True),
        ("example.com", "hub.example.com", 443, True),
        ("example.com", "myexample.com", 443, False),
        (".example.com", "hub.example.com", 443, True),
        ("*.example.com", "hub.EXAMPLE.com.", 443, True),
        ("example.com:8883", "example.com", 8883, True),
        ("example.com:8883", "example.com", 443, False),
        ("10.0.0.0/8", "10.200.1.1", 443, True),
        ("10.0.0.0/8", "11.0.0.1", 443, False),
        ("10.0.0.0/8", "10.example.com", 443, False),
        ("192.168.1.4", "192.168.1.4", 443, True),
        ("fd00::/8", "fd00::7", 443, True),
        ("[fd00::7]:8883", "fd00::7", 8883, True),
        ("[fd00::7]:8883", "fd00::7", 443, False),
        ("fd00::7", "fd00::8", 443, False),
        ("*", "anything", 1, True),
        ("", "anything", 1, False),
    ],
)
def test_an_entry_of_no_proxy_means_a_name_and_those_below_or_a_network(
    entry, host, port, is_meant
):
    assert matches(entry, host, port) is is_meant


LETTERS = st.text("a1.:[]/*%é\n ", max_size=12)


@given(entry=LETTERS, host=LETTERS, port=st.integers(1, 65535))
def test_no_entry_of_no_proxy_is_too_odd(entry, host, port):
    matches(entry, host, port)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('url = "http://ada:secret-lace@proxy:3128"', "url"),
        ('url = "https://proxy:3128"', "url"),
        ('url = "proxy:3128"', "url"),
        ('url = "http://proxy:3128"\nusername = "ada"', "password_file"),
        ('url = "http://proxy:3128"\npassword_file = "p"', "username"),
        ('username = "ada"\npassword_file = "p"', "url"),
        ('url = "http://proxy:1"\nusername = "a:b"\npassword_file = "p"', "username"),
    ],
)
def test_agent_toml_refuses_what_can_not_be_and_shows_no_password(tmp_path, lines, key):
    text = f'device = "cam-1"\n[broker]\nhost = "b"\n[proxy]\n{lines}\n'
    (tmp_path / "agent.toml").write_text(text)
    with pytest.raises(config.ConfigError, match=rf"agent\.toml(:\d+)?: proxy\.{key}: ") as error:
        config.load(tmp_path)
    assert "secret-lace" not in str(error.value)
