"""How connections leave the device's network: straight, or through its proxy by HTTP CONNECT.

RFC 9110, 9.3.6. The proxy resolves names and sees host and port; TLS is between this device and the
hub all the same. What agent.toml says goes before the environment (HTTPS_PROXY, NO_PROXY).
"""

import base64
import ipaddress
import re
import socket
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muster_agent.base.settings import ProxySettings
from muster_protocol.wire import limits
from muster_protocol.wire.addresses import joined

HEAD_BYTES_MAX = 16 * limits.KIB
"""Of a proxy's answer to CONNECT: what common servers send of headers at most."""
PASSWORD_BYTES_MAX = limits.KIB
REASON_CHARS_MAX = 80
HTTP_PORT = 80
NAMED = "agent.toml"
"""Who names a proxy that is not the environment's."""
UNKNOWN_STATUSES = (401, 407)
"""Who this is. 401 is a server's word for it, but Tinyproxy answers a wrong password with it."""
_STATUS = re.compile(rb"HTTP/1\.[01] (?P<status>\d{3})(?: (?P<reason>[^\r\n]*))?\r?\n")
_SCHEMES = re.compile(rb"^(?:proxy|www)-authenticate:\s*([\w-]+)", re.IGNORECASE | re.MULTILINE)
_HOST = re.compile(r"[!-~]+")


class ProxyError(OSError):
    """The proxy does not let this device out; one line for an operator, without secrets."""


@dataclass(frozen=True)
class Proxy:
    """A proxy, and who this device is to it."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    """Read whenever it is needed, so that a changed one counts at once."""
    origin: str = NAMED
    """Who names it, for messages."""

    def __str__(self) -> str:
        return joined(self.host, self.port)

    def authorization(self) -> str:
        """Value of Proxy-Authorization (Basic, RFC 7617); empty: none. Raises ProxyError."""
        if not self.user:
            return ""
        pair = f"{self.user}:{self._secret()}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def _secret(self) -> str:
        if self.password_file is None:
            return self.password
        try:
            with self.password_file.open("rb") as file:
                data = file.read(PASSWORD_BYTES_MAX + 1)
        except OSError as error:
            why = error.strerror or error
            raise ProxyError(f"the proxy's password: {self.password_file}: {why}") from None
        if len(data) > PASSWORD_BYTES_MAX:
            raise ProxyError(f"the proxy's password: {self.password_file} is too long for one")
        try:
            return data.decode().strip("\r\n")
        except UnicodeDecodeError:
            raise ProxyError(
                f"the proxy's password: {self.password_file} is no text in UTF-8"
            ) from None

    def tunnel(self, host: str, port: int, seconds: float) -> socket.socket:
        """A connection to ``host`` through the proxy, made within ``seconds``.

        Raises ProxyError, and TimeoutError where the proxy does not answer in time.
        """
        target = _target(host, port)
        deadline = time.monotonic() + seconds
        request = _request(target, self.authorization())
        opened = self._reached(seconds)
        try:
            opened.sendall(request)
            head = _answer(opened, deadline)
            opened.settimeout(seconds)
        except TimeoutError:
            opened.close()
            raise ProxyError(
                f"the proxy {self} does not answer CONNECT {target} within {seconds:.0f} s"
            ) from None
        except OSError as error:
            opened.close()
            why = error.strerror or error
            raise ProxyError(f"the proxy {self} broke off on CONNECT {target}: {why}") from None
        refusal = self._refusal(head, target)
        if refusal:
            opened.close()
            raise ProxyError(refusal)
        return opened

    def _reached(self, seconds: float) -> socket.socket:
        try:
            return socket.create_connection((self.host, self.port), seconds)
        except socket.gaierror:
            why = "no address is known for that name"
        except TimeoutError:
            why = f"no answer within {seconds:.0f} s"
        except OSError as error:
            why = error.strerror or str(error)
        raise ProxyError(
            f"the proxy {self} ({self.origin}) is not reached: {why}: check its address and the "
            "network"
        )

    def _refusal(self, head: bytes, target: str) -> str:
        """What is wrong with an answer to CONNECT; empty: nothing."""
        found = _STATUS.match(head)
        if found is None:
            return f"{self} ({self.origin}) does not answer as an HTTP proxy: check its address"
        status = int(found["status"])
        if 200 <= status < 300:
            return ""
        reason = (found["reason"] or b"").decode("ascii", "replace")
        said = f"{status} {''.join(filter(str.isprintable, reason))[:REASON_CHARS_MAX]}".strip()
        if status in UNKNOWN_STATUSES:
            return self._unknown(head, said)
        if status >= 500:
            return (
                f"the proxy {self} does not reach {target} ({said}): check the address, and that "
                "the proxy knows the way there"
            )
        return (
            f"the proxy {self} refuses to connect to {target} ({said}): have it allow CONNECT to "
            "that host and port"
        )

    def _unknown(self, head: bytes, said: str) -> str:
        offered = sorted({scheme.decode().lower() for scheme in _SCHEMES.findall(head)})
        if offered and "basic" not in offered:
            return (
                f"the proxy {self} wants {', '.join(offered)} ({said}), this device can Basic: "
                "have the proxy let it through"
            )
        if not self.user:
            return (
                f"the proxy {self} wants a user and a password ({said}): set username and "
                "password_file of [proxy] in agent.toml"
            )
        return f"the proxy {self} refuses user {self.user!r} ({said}): check the password"


class Proxies:
    """Which connections go through a proxy."""

    def __init__(
        self,
        proxy: Proxy | None = None,
        exempt: Sequence[str] = (),
        *,
        loopback: bool = False,
        fault: str = "",
    ) -> None:
        """``exempt`` hosts are reached straight; so is this machine itself, unless ``loopback``.
        ``fault`` is why a proxy that is named can't be used: a device without a link serves on.
        """
        self._proxy = proxy
        self._fault = fault
        self._exempt = tuple(exempt)
        self._loopback = loopback

    def way(self, host: str, port: int) -> Proxy | None:
        """The proxy on the way to a host; None: it is reached straight. Raises ProxyError."""
        if not self._loopback and _is_loopback(host):
            return None
        if any(matches(each, host, port) for each in self._exempt):
            return None
        if self._fault:
            raise ProxyError(self._fault)
        return self._proxy

    def connect(self, host: str, port: int, seconds: float) -> socket.socket:
        """A TCP connection to ``host``, made within ``seconds``, which are its time-out too.

        Raises OSError; ProxyError where the proxy is what fails.
        """
        proxy = self.way(host, port)
        if proxy is None:
            return socket.create_connection((host, port), seconds)
        return proxy.tunnel(host, port, seconds)

    def hint(self, host: str, port: int) -> str:
        """To be said behind what went wrong with TLS."""
        proxy = self.way(host, port)
        if proxy is None:
            return ""
        return f" (through the proxy {proxy}: if that opens TLS, have it pass this host unopened)"


DIRECT = Proxies()


def chosen(settings: ProxySettings, directory: Path, environment: Mapping[str, str]) -> Proxies:
    """As agent.toml says; where it names no proxy, as the environment does.

    ``directory`` is the agent's. Never raises: what can't be used is said where it would be.
    """
    if settings.url:
        host, port, _, _ = _parsed(settings.url)
        file = directory / settings.password_file if settings.password_file else None
        named = Proxy(host, port, settings.username, password_file=file)
        return Proxies(named, settings.no_proxy, loopback=True)
    for name in ("https_proxy", "HTTPS_PROXY"):
        url = environment.get(name, "")
        if url:
            break
    else:
        return DIRECT
    bypass = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    listed = [part.strip() for part in bypass.split(",") if part.strip()]
    exempt = [*settings.no_proxy, *listed]
    try:
        host, port, user, password = _parsed(url if "://" in url else f"http://{url}")
    except ValueError as error:
        return Proxies(exempt=exempt, fault=f"{name} of the environment: {error}")
    return Proxies(Proxy(host, port, user, password, origin=name), exempt)


def check(settings: ProxySettings) -> tuple[str, str] | None:
    """The key that says something impossible, and why; None: all is well. Names no secret."""
    if settings.url:
        try:
            _, _, user, password = _parsed(settings.url)
        except ValueError as error:
            return "url", str(error)
        if user or password:
            return "url", "user and password don't belong here: set username and password_file"
    if ":" in settings.username:
        return "username", "a user name for Basic can't hold a colon"
    if bool(settings.username) != bool(settings.password_file):
        lacking = "password_file" if settings.username else "username"
        return lacking, "username and password_file are set together or not at all"
    if settings.username and not settings.url:
        return "url", "username and password_file are those of the proxy that url names"
    return None


def matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means this host: ``*``, a name (with those below it), an
    address or a network, each with a port or without.
    """
    entry, host = entry.strip().lower(), host.strip("[]").rstrip(".").lower()
    if entry == "*":
        return True
    name, bound = _split_port(entry)
    if bound is not None and bound != port:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        suffix = name.removeprefix("*").strip(".")
        return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(r"\[(?P<host>[^\]]*)\](?::(?P<port>\d+))?", entry)
    plain = re.fullmatch(r"(?P<host>[^:]*):(?P<port>\d+)", entry)
    found = bracketed or plain
    if found is None:
        return entry, None
    return found["host"], int(found["port"]) if found["port"] else None


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _parsed(url: str) -> tuple[str, int, str, str]:
    """Host, port, user and password of a proxy's URL; raises ValueError, which names no secret."""
    use = "use http://host:port"
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"that is no proxy's address: {use}") from None
    if parts.scheme != "http":
        raise ValueError(f"a proxy is spoken to by plain HTTP (TLS goes through it): {use}")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"that is no proxy's address: {use}")
    user = urllib.parse.unquote(parts.username or "")
    password = urllib.parse.unquote(parts.password or "")
    return parts.hostname, HTTP_PORT if port is None else port, user, password


def _target(host: str, port: int) -> str:
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name):
        raise ProxyError(f"{host!r} is no host name")
    return joined(name, port)


def _request(target: str, authorization: str) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", "User-Agent: muster-agent"]
    if authorization:
        lines.append(f"Proxy-Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


def _answer(opened: socket.socket, deadline: float) -> bytes:
    """The head of the answer and no byte more; raises OSError. Cut where it is too long."""
    head = bytearray()
    while len(head) < HEAD_BYTES_MAX and not head.endswith((b"\r\n\r\n", b"\n\n")):
        opened.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = opened.recv(1)
        if not byte:
            raise ConnectionResetError("it hung up")
        head += byte
    return bytes(head)
