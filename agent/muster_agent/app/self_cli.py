"""``muster-agent self apply | show``: the agent's own update from a file, such as a stick's."""

import argparse
from collections.abc import Callable
from pathlib import Path

from muster_agent.app import facts, outages
from muster_agent.base import config
from muster_agent.selfupdate import installing, record
from muster_agent.storage.lock import holder
from muster_agent.trust.store import TrustStore

Run = Callable[[argparse.Namespace], int]
Add = Callable[[str, Run, str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Give the commands to a parser's ``add``, which makes one with ``--dir``."""
    applying = add("apply", apply, "Install a signed release of the agent and try it.")
    applying.add_argument("file", type=Path, metavar="FILE")
    applying.add_argument("--retry", action="store_true", help="one that was taken back, too")
    applying.add_argument(
        "--no-restart", action="store_true", help="try it when the agent starts next"
    )
    add("show", show, "Show which agent runs here and what became of an update.")


def apply(options: argparse.Namespace) -> int:
    """0: the release is on trial, or will be from the next start on."""
    directory: Path = options.dir
    with options.file.open("rb") as file:  # While it may still be root who reads the stick.
        installing.become_owner(directory)
        loaded = config.load(directory)
        pid = holder(directory)
        release = installing.install(
            file,
            directory,
            TrustStore(directory / "trust").verify_release,
            online=pid is not None and outages.read(directory) is None,
            retry=options.retry,
            free_bytes_min=loaded.settings.limits.disk_free_bytes_min,
        )
    print(f"agent {release.version} is installed beside the one that runs")
    if not options.no_restart and installing.restart(pid):
        print("the agent is restarting into its trial; see: muster-agent self show")
    else:
        print("its trial begins when the agent starts next")
    return 0


def show(options: argparse.Namespace) -> int:
    """The side in place, and an update's state."""
    found = record.load(options.dir)
    if found is None:
        print(f"agent {facts.agent_version()}, not started by muster-agent-launch")
        return 0
    version = found.version or "as it was installed"
    print(f"agent {version} is in place (side {found.side})")
    if state := record.words(found):
        print(state)
    return 0
