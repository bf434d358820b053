"""``muster-agent doctor``: one line for each thing an update or an inference depends on."""

import contextlib
import os
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

from muster_agent.app import facts, status
from muster_agent.base import config as configuration
from muster_agent.base.clock import Clock
from muster_agent.base.config import Config
from muster_agent.base.proxy import Proxies, ProxyError, chosen
from muster_agent.identity import identity, tls
from muster_agent.identity.contact import Contacts
from muster_agent.isolation.cage import Rung, available
from muster_agent.storage import lock
from muster_agent.storage.content import disk_free_bytes
from muster_agent.storage.state import read_state
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import DAY_SECONDS, ClockReading, Instant, trusted_now
from muster_protocol.wire import limits
from muster_protocol.wire.addresses import joined
from muster_protocol.wire.contact import BrokerAddress
from muster_protocol.wire.errors import MusterError

BROKER_SECONDS = 5.0
REFUSAL_SECONDS = 2.0
"""How long a broker may take to refuse a certificate after the handshake."""
EXPIRES_SOON_DAYS = 14
Grade = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; ``line`` says what, where and, unless ok, what to do."""

    check: str
    grade: Grade
    line: str

    def as_dict(self) -> dict[str, Any]:
        """As ``doctor --json`` prints it."""
        return asdict(self)


def examine(directory: Path, clock: Clock) -> Iterator[Finding]:
    """Look at everything; a check that can't be made is a failure, never an exception."""
    try:
        config = configuration.load(directory)
    except MusterError as error:
        yield Finding("config", "fail", str(error))
        return
    yield Finding("config", "ok", f"{directory / configuration.FILE} names {config.device}")
    reading = ClockReading(clock.wall(), clock.quality())
    now = trusted_now(reading)
    checks: dict[str, Callable[[], Finding]] = {
        "agent": lambda: _agent(config),
        "disk": lambda: _disk(config),
        "clock": lambda: _clock(reading),
        "database": lambda: _database(config),
        "identity": lambda: _identity(config, now),
        "trust": lambda: _trust(config, reading),
        "runtimes": lambda: _runtimes(config),
        "isolation": lambda: _isolation(config, available()),
        "broker": lambda: _broker(config, now),
    }
    for name, check in checks.items():
        try:
            yield check()
        except (MusterError, OSError, sqlite3.Error) as error:
            yield Finding(name, "fail", str(error))
    yield from _sockets(config)


def _agent(config: Config) -> Finding:
    pid = lock.holder(config.directory)
    if pid is None:
        return Finding("agent", "warn", f"no agent serves {config.directory}: muster-agent run")
    return Finding("agent", "ok", f"running, pid {pid}")


def _disk(config: Config) -> Finding:
    free = disk_free_bytes(config.directory)
    least = config.settings.limits.disk_free_bytes_min
    if not os.access(config.directory, os.W_OK):
        return Finding("disk", "fail", f"{config.directory} is not writable for this user")
    line = f"{free // limits.MIB} MiB free at {config.directory}"
    if free < 2 * least:
        grade: Grade = "fail" if free < least else "warn"
        return Finding("disk", grade, f"{line}; updates keep {least // limits.MIB} free: make room")
    return Finding("disk", "ok", line)


def _clock(reading: ClockReading) -> Finding:
    if reading.quality == "synchronised":
        return Finding("clock", "ok", "synchronised")
    return Finding(
        "clock", "warn", "not synchronised: expiry is judged by signed times; check NTP or the RTC"
    )


def _database(config: Config) -> Finding:
    try:
        state = read_state(config.directory)
    except sqlite3.OperationalError:
        return Finding("database", "warn", "none yet: muster-agent run makes it")
    (verdict,) = state.connection.execute("PRAGMA quick_check(1)").fetchone()
    slots = len(state.pointers())
    state.close()
    if verdict != "ok":
        return Finding(
            "database", "fail", f"damaged ({verdict}): a restart of the agent replaces it"
        )
    return Finding("database", "ok", f"sound, {slots} slots have a committed model")


def _identity(config: Config, now: Instant) -> Finding:
    who = identity.load(config.directory / "identity")
    if who.device != config.device:
        return Finding(
            "identity",
            "fail",
            f"the certificate is for {who.device}, agent.toml names {config.device}: enrol again",
        )
    days = who.days_left(now.seconds)
    if days < 0:
        return Finding("identity", "fail", f"the certificate expired {-days} days ago: enrol again")
    grade: Grade = "warn" if days < EXPIRES_SOON_DAYS else "ok"
    return Finding("identity", grade, f"certificate of {who.device} is good for {days} days")


def _trust(config: Config, reading: ClockReading) -> Finding:
    store = TrustStore(config.directory / "trust")
    trusted = store.trusted()
    if trusted is None:
        return Finding("trust", "warn", "factory root only: no metadata have come from a hub yet")
    now = store.now(reading).seconds
    if expired := trusted.expired(now):
        return Finding(
            "trust",
            "warn",
            f"expired: {', '.join(expired)}: no new installs until the hub publishes newer ones",
        )
    days = (min(trusted.expires.values()) - now) // DAY_SECONDS
    return Finding(
        "trust", "ok", f"timestamp {trusted.versions['timestamp']}, good for {days} days"
    )


def _runtimes(config: Config) -> Finding:
    usable = facts.usable_runtimes(config.settings.runtimes.allow)
    if not usable:
        return Finding(
            "runtimes", "fail", "none: pip install 'muster-edge[onnx]' or 'muster-edge[tflite]'"
        )
    return Finding("runtimes", "ok", ", ".join(f"{name} {v}" for name, v in usable.items()))


def _isolation(config: Config, rung: Rung) -> Finding:
    match rung:
        case Rung.FULL:
            return Finding("isolation", "ok", "models run under Landlock and a filter of calls")
        case Rung.NO_LANDLOCK | Rung.ONE_THREAD:
            lacks = "Landlock" if rung is Rung.NO_LANDLOCK else "filters for all threads"
            line = f"models run under a filter of calls; this kernel has no {lacks}: they are held "
            return Finding("isolation", "ok", line + "in memory while they are loaded")
        case Rung.NONE:
            required = config.settings.isolation == "required"
            grade: Grade = "fail" if required else "warn"
            line = "this kernel isolates no model's process: a hostile one could read the key here"
            wants = "; isolation = required, so none runs" if required else ""
            return Finding("isolation", grade, f"{line}{wants}: use one with seccomp")
        case _ as unreachable:
            assert_never(unreachable)


def _broker(config: Config, now: Instant) -> Finding:
    """The first broker that lets this device in; else what is wrong with each."""
    own, directory = config.settings.broker, config.directory / "identity"
    contacts = Contacts(
        directory, hub=config.settings.hub.url, broker=BrokerAddress(own.host, own.port)
    )
    proxies = chosen(config.settings.proxy, config.directory, os.environ)
    failed = []
    for address in contacts.brokers():
        finding = _answers(config, now, address.host, address.port, proxies)
        if finding.grade == "ok":
            return finding
        failed.append(finding)
    return Finding("broker", "fail", "; ".join(finding.line for finding in failed))


def _answers(config: Config, now: Instant, host: str, port: int, proxies: Proxies) -> Finding:
    where = joined(host, port)
    who = identity.load(config.directory / "identity")
    context = tls.context(who.ca, key=who.key, cert=who.cert)
    try:
        with (
            proxies.connect(host, port, BROKER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            tls.check_peer(secured, context, now, where)
            # TLS 1.3 lets the client finish before the server has looked at its certificate.
            secured.settimeout(REFUSAL_SECONDS)
            with contextlib.suppress(TimeoutError):
                if not secured.recv(1):
                    line = "hung up on this device's certificate: is it revoked or expired?"
                    return Finding("broker", "fail", f"{where} {line}")
    except ssl.SSLError as error:
        hint = proxies.hint(host, port)
        return Finding("broker", "fail", tls.explain(error, where) + hint)
    except ProxyError as error:
        return Finding("broker", "fail", str(error))
    except OSError as error:
        return Finding("broker", "fail", f"{where}: {error}: check the address and the network")
    proxy = proxies.way(host, port)
    by = "" if proxy is None else f", through the proxy {proxy} ({proxy.origin})"
    return Finding("broker", "ok", f"{where} answers with a certificate of our hub's CA{by}")


def _sockets(config: Config) -> Iterator[Finding]:
    try:
        slots = sorted(read_state(config.directory).pointers())
    except sqlite3.Error:
        return
    for slot in slots:
        try:
            path = config.socket_path(slot)
        except MusterError as error:
            yield Finding("sockets", "fail", str(error))
            continue
        if status.answers(path):
            yield Finding("sockets", "ok", f"slot {slot} is served on {path}")
        else:
            yield Finding("sockets", "fail", f"slot {slot}: nobody is ready on {path}")
