"""How soon a stand-by acts for a killed engine and publisher: ``python -m bench.takeover``.

A hub on a real PostgreSQL in three processes, API and ingest in one, engine and publisher in the
two others. The one that holds both leases is killed; seconds until the other one holds them, as its
health says. Writes results/takeover.json with ``--keep``.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # its hub on free ports

from support import postgres
from support.hub_processes import Plant
from support.waiting import until

RESULTS = Path(__file__).parent / "results" / "takeover.json"
LOOK_SECONDS = 0.05


def measure(kills: int) -> dict[str, object]:
    """Each time the one that acts is killed, and started again as the stand-by."""
    taken = []
    with (
        tempfile.TemporaryDirectory(prefix="muster-takeover-") as folder,
        postgres.running() as server,
        closing(Plant(Path(folder), server.fresh())) as plant,
    ):
        plant.start()
        for _ in range(kills):
            acting = until(
                lambda: [number for number in (0, 1) if all(plant.leases(number).values())], bool
            )[0]
            plant.backs[acting].kill()
            begun = time.monotonic()
            while not all(plant.leases(1 - acting).values()):
                time.sleep(LOOK_SECONDS)  # the stand-by needs the processor
            taken.append(round(time.monotonic() - begun, 2))
            plant.again(acting)
    return {
        "kills": kills, "seconds": taken, "median_seconds": statistics.median(taken),
        "longest_seconds": max(taken), "wanted_seconds": 10.0,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help="write results/takeover.json")
    asked = parser.parse_args()
    found = {"load": round(os.getloadavg()[0], 1)} | measure(asked.kills)
    text = json.dumps(found, indent=2)
    print(text)
    if asked.keep:
        RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
