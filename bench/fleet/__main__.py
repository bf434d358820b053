"""A process of virtual devices: ``python -m bench.fleet SETTINGS.json``; told what to do by lines.

It prints a line of JSON with its counts every second, and after ``end``, when it ends. ``connect``
has all devices connect; ``windows SECONDS`` has them send a window each so often, and
``windows 0`` no more; with ``drift SHARE`` the windows of so many devices drift.
"""

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from bench.fleet.connections import Fleet
from bench.fleet.windows import Windows

SAY_SECONDS = 1.0


def said(fleet: Fleet, begun: float) -> dict[str, Any]:
    spent = os.times()
    return {
        "at": time.time(),
        "devices": len(fleet.links),
        "up": fleet.up,
        "connects": fleet.connects,
        "losses": fleet.losses,
        "unacknowledged": sum(link.device.unacknowledged for link in fleet.links),
        "running_last": sum(link.device.runs_as_asked for link in fleet.links),
        "cpu_seconds": spent.user + spent.system,
        "seconds": time.monotonic() - begun,
        **vars(fleet.counts),
    }


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text())
    fleet = Fleet(
        settings["host"], settings["port"], Path(settings["ca"]), Path(settings["files"]),
        settings["names"], Windows(),
    )  # fmt: skip
    begun = say_at = time.monotonic()
    asked = sys.stdin.fileno()
    os.set_blocking(asked, False)
    heard = b""
    while True:
        fleet.turn(0.05)
        if time.monotonic() >= say_at:
            print(json.dumps(said(fleet, begun)), flush=True)
            say_at = time.monotonic() + SAY_SECONDS
        if select.select([asked], [], [], 0)[0]:
            more = os.read(asked, 4096)
            heard += more
            while b"\n" in heard:
                line, _, heard = heard.partition(b"\n")
                verb, _, value = line.decode().partition(" ")
                if verb == "connect":
                    fleet.connect_all()
                elif verb == "windows":
                    fleet.begin_windows(float(value))
                elif verb == "drift":
                    fleet.begin_drift(float(value))
                elif verb == "end":
                    more = b""
            if not more:
                print(json.dumps(said(fleet, begun)), flush=True)
                fleet.close()
                return 0


if __name__ == "__main__":
    sys.exit(main())
