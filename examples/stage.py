"""What the examples share: telling what happens, waiting, a fleet of one device, the last line."""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import muster_client
from muster_client.answers import Rollout

WAIT_SECONDS = 180.0
TRIES = 3
PORTS_FROM, PORTS_SPREAD = 20_000, 10_000


def say(text: str) -> None:
    """A line of the story."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def fail(why: str) -> NoReturn:
    """End the program: something that was to be proved is not so."""
    sys.exit(f"FAILED: {why}")


def until(what: str, holds: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait for something that nothing announces; ends the program when it doesn't come."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            fail(f"{what} did not come in {seconds:.0f} s")
        time.sleep(0.1)  # It is looked for from outside.


def free_ports(count: int) -> list[int]:
    """Ports below those that the system gives to outgoing connections, which might take one."""
    found: list[int] = []
    start = PORTS_FROM + os.getpid() * 37 % PORTS_SPREAD
    for port in range(start, start + 2000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free port")


def quickstart(folder: Path, *more: str) -> None:
    """``muster quickstart``: a hub, a broker and a device, in the background."""
    muster = str(Path(sys.executable).parent / "muster")
    for _ in range(TRIES):  # On a busy machine it goes on where it had to give up.
        done = subprocess.run(
            [muster, "quickstart", str(folder), *more], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
    fail(f"muster quickstart: {done.stderr or done.stdout}")


@contextmanager
def fleet(folder: Path, slot_port: int, feed: str) -> Iterator[muster_client.Hub]:
    """A hub, a broker and a device with this feed, while it lasts; the hub as its operator."""
    try:
        quickstart(folder, "--port", str(slot_port))
        quickstart(folder, "--stop")
        with (folder / "device-1" / "agent.toml").open("a", encoding="utf-8") as file:
            file.write(feed)
        quickstart(folder)
        with muster_client.Hub.from_profile(folder / "hub" / "operator.toml") as hub:
            yield hub
    finally:
        quickstart(folder, "--stop")


def ended(hub: muster_client.Hub, rollout: int, what: str) -> Rollout:
    """Wait for a rollout's end; how it ended."""
    until(what, lambda: hub.rollouts.status(rollout)["ended"])
    return hub.rollouts.status(rollout)


def completed(hub: muster_client.Hub, rollout: int, what: str) -> Rollout:
    """Wait for a rollout's end, and end the program unless it did what it was to do."""
    found = ended(hub, rollout, what)
    if found["state"] != "completed":
        fail(f"rollout {rollout} ended as {found['state']}: {found['reason']}")
    return found


def drift(hub: muster_client.Hub, words: str = "") -> str:
    """Title of the hub's alert of drift that has these words; empty while there is none."""
    found = (each["title"] for each in hub.alerts.list() if each["kind"] == "drift")
    return next((title for title in found if words in title), "")


def perform(story: Callable[[Path], str], about: str | None) -> None:
    """Run an example, by default in a folder that isn't kept, and print what was proved."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep everything here")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        print(story(options.keep.absolute()))
        return
    with tempfile.TemporaryDirectory(prefix="muster-example-") as folder:
        print(story(Path(folder)))
