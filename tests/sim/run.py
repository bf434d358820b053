"""``make sim``: many worlds on both cores, one replayed with its timeline, and the planted bugs.

python -m sim.run                 500 seeds, then the planted bugs
python -m sim.run --seed 42       one seed, with its timeline
python -m sim.run --seeds 0..500  these seeds
"""

import argparse
import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from pathlib import Path

from sim.catalogue import SCRATCH_IN, SCRATCH_PREFIX, memory
from sim.engine_plants import ENGINE_PLANTS
from sim.engine_world import EngineOutcome, EngineWorld
from sim.loop_world import LoopOutcome, LoopWorld
from sim.plants import PLANTS, SEEDS_MAX, seeds_to_find
from sim.release_plants import RELEASE_PLANTS
from sim.release_world import ReleaseOutcome, ReleaseWorld
from sim.shrink import in_words, shrink
from sim.slow_plants import SLOW_PLANTS
from sim.slow_world import SlowOutcome, SlowWorld
from sim.trial_plants import TRIAL_PLANTS
from sim.trial_world import TrialWorld
from sim.world import TRANSITIONS, Outcome, World, lived

SEEDS = 500
LOOP_SEEDS = 100
ENGINE_SEEDS = 40
RELEASE_SEEDS = 40
TRIAL_SEEDS = 30
WORSE_FOR_NOTHING_MAX = 2
"""Of the trials of good releases in these seeds; each metric stops one in a hundred."""
SLOW_SEEDS = 4
SLOW_PLANT_SEEDS, SLOW_PLANT_DAYS = 3, 90.0
DAY_SECONDS = 86_400.0
QUIETENED = ("muster_agent", "muster_hub", "tuf")
PLANTS_HEADING = f"{'planted bug':<34} {'found at seed':>13}  by the invariant"
LEAST = {"faults": 200, "partition": 1, "to committed": 1, "to rolling_back": 1}
"""What a world must have gone through to count as one."""


def quiet() -> None:
    """Faults by the hundred are the point here: what the product logs of them is not."""
    for name in QUIETENED:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def live(seed: int) -> Outcome:
    return lived(seed)


def live_loops(seed: int) -> LoopOutcome:
    return LoopWorld(seed).run()


def live_engines(seed: int) -> EngineOutcome:
    return EngineWorld(seed).run()


def live_trials(seed: int) -> Outcome:
    return TrialWorld(seed).run()


def live_releases(seed: int) -> ReleaseOutcome:
    return ReleaseWorld(seed).run()


def live_slowly(seed: int) -> SlowOutcome:
    return SlowWorld(seed).run()


def seeds_to_find_slowly(name: str) -> tuple[str, int | None, str]:
    """As ``seeds_to_find_in_engines``, in seasons instead of years."""
    for seed in range(SLOW_PLANT_SEEDS):
        found = SlowWorld(seed, SLOW_PLANTS[name], SLOW_PLANT_DAYS).run().violation
        if found is not None:
            return name, seed, found.invariant
    return name, None, ""


def seeds_to_find_in_releases(name: str) -> tuple[str, int | None, str]:
    """As ``seeds_to_find_in_engines``."""
    for seed in range(RELEASE_SEEDS):
        found = ReleaseWorld(seed, RELEASE_PLANTS[name]).run().violation
        if found is not None:
            return name, seed, found.invariant
    return name, None, ""


def seeds_to_find_in_trials(name: str) -> tuple[str, int | None, str]:
    """As ``seeds_to_find_in_engines``."""
    for seed in range(TRIAL_SEEDS):
        found = TrialWorld(seed, doubles=TRIAL_PLANTS[name]).run().violation
        if found is not None:
            return name, seed, found.invariant
    return name, None, ""


def seeds_to_find_in_engines(name: str) -> tuple[str, int | None, str]:
    """The plant's name, the first seed whose world shows it, and which promise it broke."""
    for seed in range(ENGINE_SEEDS):
        found = EngineWorld(seed, ENGINE_PLANTS[name]).run().violation
        if found is not None:
            return name, seed, found.invariant
    return name, None, ""


def commit() -> str:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def lacking(outcome: Outcome) -> list[str]:
    """What a world has gone through too little of, in words."""
    return [
        f"{outcome.counts[kind]} {kind}" for kind in LEAST if outcome.counts[kind] < LEAST[kind]
    ]


def row(name: str, seed: int | None, promise: str) -> str:
    """A row of the table of seeds to find each planted bug."""
    found = str(seed) if seed is not None else f"not in {SEEDS_MAX}"
    return f"{name:<34} {found:>13}  {promise}"


class Totals:
    def __init__(self) -> None:
        self.seeds = self.events = 0
        self.device_seconds = 0.0
        self.transitions: set[tuple[str, str]] = set()
        self.violations: list[Outcome] = []
        self.poor: list[str] = []
        """Worlds that went through too little, in words."""
        self.counts: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.events += outcome.events
        self.device_seconds += outcome.device_seconds
        self.transitions |= outcome.transitions
        self.counts += outcome.counts
        if outcome.violation is not None:
            self.violations.append(outcome)
            return
        if lacking(outcome):
            self.poor.append(f"seed {outcome.seed}: only {', '.join(lacking(outcome))}")

    def faults(self) -> list[str]:
        """Why these worlds prove less than they should, in words."""
        missing = sorted(TRANSITIONS - self.transitions)
        uncovered = [f"not covered: {state} on {cause}" for state, cause in missing]
        return [*(f"a poor world, {reason}" for reason in self.poor), *uncovered]

    def line(self, planted: str) -> str:
        return (
            f"sim: {self.seeds} seeds, {self.events} events, "
            f"{self.device_seconds / DAY_SECONDS:.0f} device-days, "
            f"{len(self.transitions & TRANSITIONS)}/{len(TRANSITIONS)} table transitions covered, "
            f"{len(self.violations)} violations, {planted} planted bugs found"
        )


def _begin(scratch: str) -> None:
    quiet()
    os.environ[SCRATCH_IN] = scratch


@contextmanager
def pool(processes: int) -> Iterator[Pool]:
    """Processes whose scratch directories are removed here: a pool ends them without notice."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would wait on the same cores
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=memory()) as shared,
        multiprocessing.get_context("spawn").Pool(processes, _begin, (shared,)) as made,
    ):
        yield made


def run_seeds(seeds: Iterable[int], processes: int) -> Totals:
    totals, started = Totals(), time.monotonic()
    seeds = list(seeds)
    with pool(processes) as workers:
        for item in workers.imap_unordered(live, seeds):
            totals.add(item)
            if item.violation is not None:
                print(f"seed {item.seed}: {item.violation}", flush=True)
            if totals.seeds % 50 == 0:
                rate = totals.seeds / (time.monotonic() - started)
                print(f"  {totals.seeds} of {len(seeds)} seeds, {rate:.1f} a second", flush=True)
    return totals


def run_plants(processes: int) -> tuple[str, bool]:
    """The table of seeds to find each planted bug, and whether all were found."""
    print(PLANTS_HEADING)
    found = 0
    others = (ENGINE_PLANTS, TRIAL_PLANTS, RELEASE_PLANTS, SLOW_PLANTS)
    planted = sum(len(plants) for plants in (PLANTS, *others))
    with pool(processes) as workers:
        for name, seed, violation in itertools.chain(
            workers.imap(seeds_to_find, PLANTS),
            workers.imap(seeds_to_find_in_engines, ENGINE_PLANTS),
            workers.imap(seeds_to_find_in_trials, TRIAL_PLANTS),
            workers.imap(seeds_to_find_in_releases, RELEASE_PLANTS),
            workers.imap(seeds_to_find_slowly, SLOW_PLANTS),
        ):
            found += seed is not None
            print(row(name, seed, violation), flush=True)
    return f"{found}/{planted}", found == planted


def run_loops(seeds: Iterable[int], processes: int) -> list[LoopOutcome]:
    """Worlds of loops; says what they came to."""
    with pool(processes) as workers:
        found = workers.map(live_loops, seeds)
    counts = sum((each.counts for each in found), Counter[str]())
    broken = [each for each in found if each.violation is not None]
    for each in broken:
        print(f"loops, seed {each.seed}: {each.violation}")
    print(
        f"loops: {len(found)} seeds, {counts['opened']} opened, {counts['closed']} closed, "
        f"{counts['failed']} failed, {counts['abandoned']} abandoned, {len(broken)} violations"
    )
    return found


def run_engines(seeds: Iterable[int], processes: int) -> list[EngineOutcome]:
    """Worlds of several hubs on one database; says what they came to."""
    with pool(processes) as workers:
        found = workers.map(live_engines, seeds)
    counts = sum((each.counts for each in found), Counter[str]())
    broken = [each for each in found if each.violation is not None]
    for each in broken:
        print(f"engines, seed {each.seed}: {each.violation}")
    days = sum(each.device_seconds for each in found) / DAY_SECONDS
    print(
        f"engines: {len(found)} seeds, {days:.0f} device-days, {counts['faults']} faults, "
        f"{counts['taken over']} times another took over, {counts['directives']} directives, "
        f"{len(broken)} violations"
    )
    return found


def run_trials(seeds: Iterable[int], processes: int) -> tuple[list[Outcome], bool]:
    """Worlds of shadows and experiments; says what they came to. Whether all was as promised."""
    with pool(processes) as workers:
        found = list(workers.imap_unordered(live_trials, seeds))
    counts = sum((each.counts for each in found), Counter[str]())
    broken = [each for each in found if each.violation is not None]
    for each in broken:
        print(f"trials, seed {each.seed}: {each.violation}")
    days = sum(each.device_seconds for each in found) / DAY_SECONDS
    wrong = counts["called worse for nothing"]
    print(
        f"trials: {len(found)} seeds, {days:.0f} device-days, {counts['shadow']} shadows, "
        f"{counts['experiment']} experiments, {counts['both']} of both, "
        f"{counts['challengers started']} challengers started, {counts['compared']} inputs "
        f"compared, {counts['verdicts']} verdicts, {wrong} for nothing, {len(broken)} violations"
    )
    return found, not broken and wrong <= WORSE_FOR_NOTHING_MAX


def run_releases(seeds: Iterable[int], processes: int) -> list[ReleaseOutcome]:
    """Worlds in which agents update themselves; says what they came to."""
    with pool(processes) as workers:
        found = list(workers.imap_unordered(live_releases, seeds))
    counts = sum((each.counts for each in found), Counter[str]())
    broken = [each for each in found if each.violation is not None]
    for each in broken:
        print(f"releases, seed {each.seed}: {each.violation}")
    days = sum(each.device_seconds for each in found) / DAY_SECONDS
    print(
        f"releases: {len(found)} seeds, {days:.0f} device-days, {counts['orders']} orders, "
        f"{counts['in place']} agents put in place, {counts['taken back']} taken back, "
        f"{counts['power cuts']} power cuts, {len(broken)} violations"
    )
    return found


def run_slowly(seeds: Iterable[int], processes: int) -> list[SlowOutcome]:
    """Worlds of a year and more; says what they came to."""
    with pool(processes) as workers:
        found = list(workers.imap_unordered(live_slowly, seeds))
    counts = sum((each.counts for each in found), Counter[str]())
    broken = [each for each in found if each.violation is not None]
    for each in broken:
        print(f"slow, seed {each.seed}: {each.violation}")
    days = sum(each.device_seconds for each in found) / DAY_SECONDS
    print(
        f"slow: {len(found)} seeds, {days:.0f} device-days, {counts['visits']} visits, "
        f"{counts['renewed']} certificates renewed in time and {counts['renewed late']} late, "
        f"{counts['moved']} moves, {counts['rotated']} rotations, {counts['cloned']} clones, "
        f"{len(broken)} violations"
    )
    return found


def replay(seed: int, *, plant: str | None, device: str | None, short: bool) -> int:
    """Live one seed and print its timeline; a violation is shrunk first when ``short``."""
    quiet()
    doubles = PLANTS[plant] if plant else None
    world = World(seed, doubles=doubles) if doubles else World(seed)
    outcome = world.run()
    if outcome.violation is not None and short:
        world = shrink(seed, world.plan, outcome.violation.invariant, doubles=doubles)
        print(in_words(world, commit(), plant))
        return 1
    print(world.trace.text(about=device))
    print(
        f"\n{outcome.violation or 'no violation'}; {outcome.events} events, trace {outcome.digest}"
    )
    return int(outcome.violation is not None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("--seed", type=int, help="replay one seed with its timeline")
    parser.add_argument("--seeds", help="a..b: live these seeds, b not among them")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="with this bug planted")
    parser.add_argument("--device", help="only this device's lines of the timeline")
    parser.add_argument("--whole", action="store_true", help="the whole timeline, not shrunk")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if asked.seed is not None:
        return replay(asked.seed, plant=asked.plant, device=asked.device, short=not asked.whole)
    first, last = (int(part) for part in (asked.seeds or f"0..{SEEDS}").split(".."))
    processes = min(os.cpu_count() or 1, 2)
    quiet()
    totals = run_seeds(range(first, last), processes)
    print("in all:", ", ".join(f"{totals.counts[kind]} {kind}" for kind in LEAST))
    whole = asked.seeds is None
    lived_loops = run_loops(range(LOOP_SEEDS), processes) if whole else []
    lived_engines = run_engines(range(ENGINE_SEEDS), processes) if whole else []
    trials, fair = run_trials(range(TRIAL_SEEDS), processes) if whole else ([], True)
    slowly = run_slowly(range(SLOW_SEEDS), processes) if whole else []
    releases = run_releases(range(RELEASE_SEEDS), processes) if whole else []
    others = (*lived_loops, *lived_engines, *releases, *slowly)
    broken = not fair or any(each.violation is not None for each in others)
    in_days = (*lived_engines, *trials, *releases, *slowly)
    totals.device_seconds += sum(each.device_seconds for each in in_days)
    planted, all_found = run_plants(processes) if whole else ("0/0", True)
    for violation in totals.violations[:1]:
        assert violation.violation is not None
        world = shrink(violation.seed, World(violation.seed).plan, violation.violation.invariant)
        print(in_words(world, commit()))
    faults = totals.faults()
    print(*faults, sep="\n", end="\n" if faults else "")
    print(totals.line(planted))
    return int(bool(totals.violations or broken or (whole and faults)) or not all_found)


if __name__ == "__main__":
    sys.exit(main())
