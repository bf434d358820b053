"""``muster-hub broker``: the managed Mosquitto in a process of its own, which a restart of the hub
leaves running, with its devices' connections and what waits for them.
"""

import logging
import os
import random
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from muster_hub.errors import Conflict, HubError
from muster_hub.mqtt.broker import Broker, managed_config
from muster_hub.mqtt.client import read_admin
from muster_hub.mqtt.control import FORMAT, BrokerStatus, Control, digest, owner, take_lock
from muster_hub.settings.config import HubConfig
from muster_protocol import json_log

LOOK_SECONDS = 0.5

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


def run(
    config: HubConfig, *, announce: Callable[[str], None] = print, log_json: bool = False
) -> int:
    """Run the directory's broker until SIGTERM or SIGINT; 0 when it ended as asked.

    Where the hub has never run, its certificates are waited for. Raises Conflict when a process
    runs the broker already, HubError when the site has a broker of its own, and BrokerError when
    Mosquitto can't start.
    """
    json_log.configure(
        logging.WARNING, "%(asctime)s %(levelname)s %(name)s: %(message)s", as_json=log_json
    )
    if config.broker.url:
        raise HubError(
            "hub.toml names a broker of yours ([broker] url), so there is none to run: "
            "empty it to have Muster run Mosquitto"
        )
    directory = config.broker_directory
    lock = take_lock(directory)
    if lock is None:
        raise Conflict(
            f"process {owner(directory)} already runs the broker of {config.data}: stop it first "
            "(a hub that was started alone runs its own)"
        )
    ending = threading.Event()
    with lock, _signals(ending):
        wanted = managed_config(config)
        broker = Broker(wanted, password=_password(config))
        broker.prepare()
        control = Control(
            directory,
            status=lambda: BrokerStatus(
                format=FORMAT, pid=broker.pid, restarts=broker.restarts, config=digest(wanted)
            ),
            reload=broker.reload,
            save=broker.save,
        )
        control.start()
        try:
            notify_ready()
            files = (wanted.ca, wanted.certificate, wanted.key, wanted.crl)
            while not all(file is not None and file.exists() for file in files):
                if ending.wait(LOOK_SECONDS * _random.uniform(0.8, 1.2)):
                    return 0
            broker.start()
            announce(f"broker ready: {config.broker.host}:{config.broker.port}")
            ending.wait()
        finally:
            broker.stop()
            control.stop()
    return 0


def notify_ready() -> None:
    """Tell systemd, where it asked for it, that the hub may start (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", path.replace("@", "\0", 1) if path[0] == "@" else path)


def _password(config: HubConfig) -> str:
    """The one the hub may be connected with, so that it comes back after a restart of this."""
    try:
        held = read_admin(config.broker_directory / "admin.json").password
    except (OSError, ValueError, KeyError, TypeError):
        held = None
    return held or secrets.token_urlsafe(32)


@contextmanager
def _signals(ending: threading.Event) -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: ending.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
