"""A feed's process: hears of models on standard input, says what happens on standard output.

It ends when its standard input does, which is when the supervisor ends, however that came about.
"""

import argparse
import asyncio
import contextlib
import hashlib
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from muster_agent.base.config import Config
from muster_agent.base.system_clock import SystemClock
from muster_agent.feeds.control import Notice, Serve, line_of, read_serve
from muster_agent.feeds.feed import Feed
from muster_agent.feeds.hub_settings import load_feeds
from muster_agent.feeds.live import status_path
from muster_agent.feeds.model import FedModel
from muster_agent.feeds.sources.base import FeedPlace
from muster_agent.storage.content import decode_manifest
from muster_agent.storage.files import make_directory
from muster_protocol.wire.errors import MusterError, ProtocolError

log = logging.getLogger(__name__)
STATUS_SECONDS = 1.0
END_SECONDS = 5.0
"""How long a feed may take to end before it is ended."""
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""By which a service or a machine is stopped: they are for the agent, which ends its feeds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one feed until standard input ends."""
    parser = argparse.ArgumentParser(prog="muster-feed")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--feed", required=True)
    options = parser.parse_args(arguments)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format=f"%(levelname)s feed {options.feed}: %(message)s")
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # It logs each try in full.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    try:
        asyncio.run(_serve(load_feeds(options.dir), options.feed))
    except MusterError as error:
        _say(Notice("refused", str(error)))
        return 1
    return 0


async def _serve(config: Config, name: str) -> None:
    settings = config.settings.feeds[name]
    place = FeedPlace(config.device, name, "", settings.slot, config.directory)
    rng = random.Random()  # noqa: S311 - jitter
    feed = Feed(settings, place, config.socket_path(settings.slot), SystemClock(), _say, rng)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear(line: bytes | None) -> None:
        if line is None:
            stop.set()
        elif (serve := read_serve(line)) is not None:
            feed.serve(*_read(serve, config, name))

    threading.Thread(target=_listen, args=(loop, hear), name="supervisor", daemon=True).start()
    writer = asyncio.create_task(_write_status(config.run_dir, feed))
    try:
        await feed.run(stop)
    finally:
        writer.cancel()


def _read(serve: Serve, config: Config, name: str) -> tuple[FedModel | None, str]:
    """The model that the slot runs, or why this feed can't ask it."""
    try:
        data = Path(serve.path).read_bytes()
        if hashlib.sha256(data).hexdigest() != serve.manifest:
            return None, f"{serve.path} is not the manifest that was signed"
        manifest = decode_manifest(data)
        return FedModel(manifest, serve.fallback, config.settings.feeds[name]), ""
    except (OSError, ProtocolError) as error:
        return None, str(error)


def _listen(loop: asyncio.AbstractEventLoop, hear: Callable[[bytes | None], None]) -> None:
    for line in sys.stdin.buffer:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(hear, line)
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(hear, None)
    timer = threading.Timer(END_SECONDS, lambda: os._exit(1))
    timer.daemon = True
    timer.start()


async def _write_status(run_dir: Path, feed: Feed) -> None:
    path = status_path(run_dir, feed.status().feed)
    make_directory(path.parent)
    while True:
        data = msgspec.json.encode(feed.status())
        fresh = path.with_suffix(".tmp")
        with contextlib.suppress(OSError):  # a full disk; it is only shown
            fresh.write_bytes(data)
            fresh.replace(path)
        await asyncio.sleep(STATUS_SECONDS)  # It is for people.


def _say(notice: Notice) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(line_of(notice))
        sys.stdout.buffer.flush()
