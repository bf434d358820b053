"""What must hold of shadows, challengers and experiments at every step of every trial world."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from muster_hub.rollouts.experiments import SETTLED
from muster_protocol.signals import summary_wire
from muster_protocol.wire.limits import JOURNAL_RESUMES_MAX
from sim.device import Device
from sim.trial_device import TrialDevice
from sim.watch import Watch
from sim.workers import Challenger

if TYPE_CHECKING:
    from sim.world import World

Arms = tuple[tuple[str, ...], tuple[str, ...]]


class TrialWatch(Watch):
    def __init__(self, world: "World") -> None:
        super().__init__(world)
        self._arms: dict[int, Arms] = {}
        self._outcomes: dict[int, str] = {}
        self._watched: dict[int, set[str]] = {}
        """Rollout → the devices that its shadow has taken."""

    def device(self, device: Device) -> None:
        super().device(device)
        assert isinstance(device, TrialDevice)
        supervisor = device.supervisor
        if supervisor is None:
            return
        for slot in supervisor.runners:
            living = device.challengers(slot)
            self.expect(
                len(living) <= 1,
                "one challenger a slot",
                f"{device.name} {slot}: {[item.goal.version for item in living]} all compare",
            )
            if supervisor.challengers.report(slot) is None:
                for key in [key for key in device.unseen if key[0] == slot]:
                    del device.unseen[key]
            for challenger in living:
                self._of(device, challenger)

    def _of(self, device: TrialDevice, challenger: Challenger) -> None:
        name = f"{device.name} {challenger.slot} {challenger.goal.version}"
        self.expect(
            not challenger.accepting, "a challenger answers nobody", f"{name} accepts requests"
        )
        release = self.world.catalogue.by_manifest.get(challenger.goal.manifest)
        self.expect(
            not challenger.ready
            or (
                challenger.goal.manifest in self.world.hub.published.signed()
                and release is not None
                and challenger.content == release.model_sha256
            ),
            "only what release keys signed is compared",
            f"{name} loaded {challenger.content[:8]}",
        )
        count = device.unseen.get((challenger.slot, challenger.goal.manifest), 0)
        self.expect(
            count <= JOURNAL_RESUMES_MAX + 1,
            "a challenger's starts are bounded",
            f"{name} was started {count} times, and each time the device went down",
        )

    def stepped(self) -> None:
        super().stepped()
        with self.world.hub.store.read() as session:
            asked = session.connection().execute(text(
                "SELECT rollout, device FROM rollout_device"
            )).fetchall()  # fmt: skip
        reached: dict[int, set[str]] = {}
        for number, name in asked:
            reached.setdefault(number, set()).add(name)
        for row in self.world.hub.rollouts():
            self._shadow(row, reached.get(row.id, set()))
            self._experiment(row, reached.get(row.id, set()))

    def _shadow(self, row: Any, reached: set[str]) -> None:
        kept = row.shadow
        if not kept:
            return
        before = self._watched.setdefault(row.id, set(kept["devices"]))
        self.expect(
            before <= set(kept["devices"]),
            "a shadow keeps its devices",
            f"rollout {row.id}: {sorted(before)} watched it, now {sorted(kept['devices'])}",
        )
        before |= set(kept["devices"])  # others stand in for who was revoked
        waits = kept.get("action", "wait") == "wait"
        self.expect(
            not (waits and row.wave == 0 and reached),
            "a shadow asks nobody to run it",
            f"rollout {row.id} has asked {sorted(reached)} and is still watched",
        )
        self.world.counts["shadows passed"] += not waits and not self._outcomes.get(-row.id)
        if not waits:
            self._outcomes[-row.id] = kept["action"]

    def _experiment(self, row: Any, reached: set[str]) -> None:
        kept = (row.judged or {}).get("experiment")
        if not kept:
            return
        arms = tuple(kept["a"]), tuple(kept["b"])
        before = self._arms.setdefault(row.id, arms)
        self.expect(
            before == arms and not set(arms[0]) & set(arms[1]),
            "who takes part in an experiment stays fixed",
            f"rollout {row.id} compared {before}, now {arms}",
        )
        tried = set(arms[0]) & reached
        self.expect(
            row.wave > 0 or row.state not in ("running", "paused") or not tried,
            "arm A keeps what it runs",
            f"rollout {row.id} has asked {sorted(tried)}, which it compares with",
        )
        outcome, known = kept.get("outcome", ""), self._outcomes.get(row.id, "")
        self.expect(
            known not in SETTLED or outcome in (known, "worse"),
            "a verdict stays",
            f"rollout {row.id} was {known!r} and is {outcome!r}",
        )
        if known == outcome:
            return
        self._outcomes[row.id] = outcome
        self.world.counts["verdicts"] += outcome in SETTLED
        if outcome == "worse" and self.world.habit(row.manifest) == "good":
            self.world.counts["called worse for nothing"] += 1

    def final(self, here: list[Device]) -> None:
        super().final(here)
        found: Counter[str] = Counter()
        with self.world.hub.store.read() as session:
            rows = session.connection().execute(text(
                "SELECT device, epoch, payload FROM summary_window"
            )).fetchall()  # fmt: skip
        for name, epoch, payload in rows:
            device = self.world.devices.get(name)
            if device is not None and epoch not in device.wiped_put:
                header = summary_wire.peek(payload)
                found[name] += header.summary.counts.compared  # type: ignore[union-attr]  # known here
        for device in here:
            assert isinstance(device, TrialDevice)
            self.expect(
                found[device.name] == device.put_pairs == device.compared - device.lost_pairs,
                "each comparison is counted once",
                f"{device.name} compared {device.compared}, lost {device.lost_pairs} to power "
                f"cuts, its windows hold {device.put_pairs}, the hub counts {found[device.name]}",
            )
