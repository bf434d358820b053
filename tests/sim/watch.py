"""What must hold at every step of every world, whatever goes wrong.

To write an invariant: check it where what it speaks of changes (``device`` after a device has done
something, ``stepped`` after the engine, ``ingested`` after a commit, ``started`` at each boot) and
call ``expect`` with its name and what was found.
"""

from typing import TYPE_CHECKING

from sqlalchemy import text

from muster_agent.update.runner import SlotRunner
from muster_agent.update.table import BOUNDED, State, parse
from muster_hub.fleet.known import HEARD_SECONDS
from muster_protocol.signals import summary_wire
from muster_protocol.wire import topics
from muster_protocol.wire.limits import JOURNAL_RESUMES_MAX
from sim.catalogue import FINAL

if TYPE_CHECKING:
    from sim.device import Device
    from sim.world import World

UNSERVED_SECONDS = 120.0
"""A slot with a committed model serves again within this after what disturbed it."""
INBOX_EVENTS_MAX = 4096
LAG_SECONDS = 120.0
"""How far the hub's picture of who is connected may lie behind."""
_BEFORE_START = (State.FETCHING, State.VERIFYING, State.STAGED)
SOME = 16
"""Dear checks are made at one of so many steps."""


class Violation(Exception):
    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(invariant, detail)
        self.invariant = invariant
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


class Watch:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.away: set[str] = set()
        """Devices that never come back."""
        self.stopping = False
        self.generations: dict[str, tuple[int, int]] = {}
        self._versions: dict[str, dict[str, int]] = {}
        self._sets: dict[str, list[dict[str, int]]] = {}
        self._proven: set[tuple[str, str]] = set()
        self._resumes: dict[tuple[str, str], tuple[tuple[object, ...], int]] = {}
        self._targeted: dict[int, set[str]] = {}
        self._failed: set[tuple[int, str]] = set()
        self._granted: dict[tuple[str, str], int] = {}
        """(Device, slot) → the rollout under whose budget it was last permitted to swap."""
        self._looked = 0
        self._written: dict[str, tuple[int, int]] = {}
        """Device → its life and how many changes its database had seen when it was looked at."""

    def expect(self, holds: object, invariant: str, detail: str) -> None:
        if not holds:
            self.violate(invariant, detail)

    def violate(self, invariant: str, detail: str) -> None:
        raise Violation(invariant, detail)

    # A device

    def started(self, device: "Device") -> None:
        """At each start: what the disk holds makes sense, and restarts are bounded."""
        pointers, journal = device.state.pointers(), device.state.journal()
        for slot, row in journal.items():
            if row.state == State.COMMITTED and row.goal is not None:
                pointer = pointers.get(slot)
                self.expect(
                    pointer is not None and pointer.goal.manifest == row.goal.manifest,
                    "pointer and journal agree",
                    f"{device.name} {slot} committed {row.goal.version} but boots "
                    f"{pointer.goal.version if pointer else 'nothing'}",
                )
            if parse(row.state) in BOUNDED:
                self._bounded(device, slot, (row.state, row.goal, row.mark))
            else:
                self._resumes.pop((device.name, slot), None)

    def _bounded(self, device: "Device", slot: str, standing: tuple[object, ...]) -> None:
        before, count = self._resumes.get((device.name, slot), (standing, 0))
        count = count + 1 if before == standing else 1
        self._resumes[device.name, slot] = standing, count
        self.expect(
            count <= JOURNAL_RESUMES_MAX + 2,
            "resumes are bounded",
            f"{device.name} {slot} has started {count} times while {standing[0]}, no further",
        )

    def device(self, device: "Device") -> None:
        """After a device has done something."""
        supervisor = device.supervisor
        if supervisor is None:
            return
        self._looked += 1
        self._forward(device)
        for slot, runner in supervisor.runners.items():
            if runner.pointer is not None:
                self._proven.add((device.name, runner.pointer.goal.manifest))
            self._serves(device, slot, runner)
            self._holds(device, slot, runner)
            self._explained(device, slot, runner)
        for worker in device.workers:
            if worker.accepting:
                release = self.world.catalogue.by_manifest.get(worker.goal.manifest)
                self.expect(
                    worker.goal.manifest in self.world.hub.published.signed()
                    and release is not None
                    and worker.content == release.model_sha256,
                    "only what release keys signed runs",
                    f"{device.name} runs {worker.goal.model} {worker.goal.version}, "
                    f"loaded {worker.content[:8] or 'nothing yet'}",
                )
        if self._looked % SOME == 0:
            self._limits(device)

    def _forward(self, device: "Device") -> None:
        database = device.state.connection
        if self._written.get(device.name) != (device.life, database.total_changes):
            self._written[device.name] = device.life, database.total_changes
            now = database.execute("SELECT epoch, generation FROM directive").fetchone() or (0, 0)
            before = self.generations.get(device.name, (0, 0))
            self.expect(
                now >= before,
                "generations never go back",
                f"{device.name} went from generation {before[1]} to {now[1]}",
            )
            self.generations[device.name] = now
        versions = device.trust.versions()
        known = self._versions.get(device.name, {})
        if versions != known:
            for role, version in known.items():
                # Others are absent while what names them has not come.
                trusted = versions.get(role, 0 if role in ("root", "timestamp") else version)
                self.expect(
                    trusted >= version,
                    "trust never goes back",
                    f"{device.name} trusts {role} {trusted}, it knew {version}",
                )
            self._versions[device.name] = known | versions
            self._sets.setdefault(device.name, []).append(versions)

    def truncated(self, device: "Device") -> None:
        """The newest set has lost a file: the one before it stands in, never less."""
        sets = self._sets.pop(device.name, [])
        self._versions[device.name] = {"timestamp": 1} if len(sets) > 2 else {}

    def _serves(self, device: "Device", slot: str, runner: SlotRunner) -> None:
        serving = device.serving(slot)
        self.expect(
            len(serving) <= 1,
            "one model answers",
            f"{device.name} {slot}: {[item.goal.version for item in serving]} all accept",
        )
        now = self.world.clock.now
        if serving or runner.pointer is None or self.stopping or device.rotten:
            device.served_at[slot] = now
            return
        since = max(device.served_at.get(slot, now), device.disturbed_at)
        device.served_at.setdefault(slot, now)
        self.expect(
            now - since <= UNSERVED_SECONDS,
            "a committed slot serves",
            f"{device.name} {slot} has not answered for {now - since:.0f} s, while {runner.state}",
        )

    def _holds(self, device: "Device", slot: str, runner: SlotRunner) -> None:
        """What the table relies on where it lists no cause."""
        goal = runner.row.goal
        if runner.state is State.COMMITTED:
            self.expect(
                goal is not None and runner.has_committed(goal),
                "what is committed is in hand",
                f"{device.name} {slot} boots another release than the one it committed",
            )
        if runner.state in _BEFORE_START:
            self.expect(
                runner.workers.candidate is None,
                "no candidate lives before its start",
                f"{device.name} {slot} is {runner.state} beside a candidate",
            )

    def _explained(self, device: "Device", slot: str, runner: SlotRunner) -> None:
        row = runner.row
        reason = (row.refusal and row.detail) if runner.state is State.FAILED else True
        if runner.state is State.STAGED:
            reason = runner.waiting_for
        self.expect(
            reason, "a stop says why", f"{device.name} {slot} is {row.state} and says nothing"
        )

    def _limits(self, device: "Device") -> None:
        stats = device.outbox.stats()
        self.expect(
            stats.bytes <= device.outbox_bytes_max and len(device.inbox) <= INBOX_EVENTS_MAX,
            "queues keep their limits",
            f"{device.name}: outbox {stats.bytes} bytes, inbox {len(device.inbox)} events",
        )
        self.expect(
            stats.dropped_summaries == 0,
            "windows merge and are not dropped",
            f"{device.name} has dropped {stats.dropped_summaries} windows",
        )

    def wiped(self, device: "Device") -> None:
        """Everything the device knew is gone, by an operator's hand."""
        self.revoked(device.name)
        for memory in (self.generations, self._versions, self._sets):
            memory.pop(device.name, None)
        for key in [key for key in self._resumes if key[0] == device.name]:
            del self._resumes[key]

    # The hub

    def stepped(self) -> None:
        """After a step of the engine."""
        for name, part in self.world.hub.heartbeats.standings().items():
            self.expect(
                part.ok, "no device makes a part of the hub unwell", f"{name}: {part.detail}"
            )
        now = self.world.hub.now()
        with self.world.hub.store.read() as session:
            rows = session.connection().execute(text(
                "SELECT d.rollout, d.device, d.state, d.detail, r.manifest, r.state, r.reason, "
                "v.online AND NOT v.revoked, v.last_seen FROM rollout_device d "
                "JOIN rollout r ON r.id = d.rollout JOIN device v ON v.id = d.device"
            )).fetchall()  # fmt: skip
        under_way: dict[int, set[str]] = {}
        for number, device, state, detail, manifest, rollout_state, reason, online, seen in rows:
            self.expect(
                state != "committed" or (device, manifest) in self._proven,
                "success is what a device has proved",
                f"rollout {number} counts {device} as committed; it never was",
            )
            heard = online and (seen is None or now - seen < HEARD_SECONDS)
            if heard and state in ("targeted", "in_progress"):
                under_way.setdefault(number, set()).add(device)
            if state == "failed" and (number, device) not in self._failed:
                self._failed.add((number, device))
                self._fairly_failed(number, device, detail)
            self.expect(
                rollout_state == "running" or len(reason) > 10,
                "a stop says why",
                f"rollout {number} is {rollout_state} and says {reason!r}",
            )
        for number, devices in under_way.items():
            most = self.world.operator.budgets.get(number, 0)
            fresh = devices - self._targeted.get(number, set())
            self.expect(
                not most or not fresh or len(devices) <= most,
                "the budget is kept",
                f"rollout {number} asked {sorted(fresh)} while {len(devices)} are under way, "
                f"at most {most} may be",
            )
        self._targeted = {}
        for number, device, *_ in rows:
            self._targeted.setdefault(number, set()).add(device)

    def permitted(self, device: "Device", slot: str) -> None:
        """A device begins to swap: by how many of its site at once is the budget's to say.

        Going back needs no permit, so only a slot's latest rollout is looked at.
        """
        assert device.supervisor is not None
        goal, directive = (
            device.supervisor.runners[slot].row.goal,
            device.supervisor.goals.directive,
        )
        assert goal is not None
        self._granted.pop((device.name, slot), None)
        named = directive.slots.get(slot) if directive is not None else None
        last = next((row for row in reversed(self.world.hub.rollouts()) if row.slot == slot), None)
        if named is None or named.swap == "free" or last is None:
            return
        most = self.world.operator.most_down.get(last.id or 0, 0)
        if not most or last.manifest != goal.manifest:
            return
        self._granted[device.name, slot] = last.id or 0
        swapping = [
            item.name
            for item in self.world.devices.values()
            if item.labels["site"] == device.labels["site"]
            and self._granted.get((item.name, slot)) == last.id
            and self._swaps(item, slot, goal.manifest)
        ]
        self.expect(
            len(swapping) <= most,
            "the disruption budget is kept",
            f"{swapping} of one site swap at once for rollout {last.id}, at most {most} may",
        )

    @staticmethod
    def _swaps(device: "Device", slot: str, manifest: str) -> bool:
        runner = device.supervisor.runners.get(slot) if device.supervisor is not None else None
        goal = runner.row.goal if runner is not None else None
        return (
            runner is not None
            and goal is not None
            and goal.manifest == manifest
            and runner.state in (State.STARTING, State.PROBATION)
            and not runner.has_committed(goal)
        )

    def revoked(self, device: str) -> None:
        """Who is revoked uses no budget, also of what it had begun."""
        for key in [key for key in self._granted if key[0] == device]:
            del self._granted[key]

    def _fairly_failed(self, number: int, name: str, detail: str) -> None:
        link = self.world.devices[name].link
        lately = link.connected or (
            self.world.clock.now - link.lost_at < HEARD_SECONDS + LAG_SECONDS
        )
        self.expect(
            lately or not detail.startswith("timed out"),
            "who is offline fails no gate",
            f"rollout {number} failed {name} ({detail}) while it was away",
        )

    def ingested(self, topics: list[str]) -> None:
        """After a commit of what devices sent."""
        self._looked += 1
        if self._looked % SOME == 0:
            self._counted(exactly=False)

    def _counted(self, *, exactly: bool) -> None:
        with self.world.hub.store.read() as session:
            rows = session.connection().execute(text(
                "SELECT device, epoch, sum(n) FROM summary_window GROUP BY device, epoch"
            )).fetchall()  # fmt: skip
        totals: dict[str, int] = {}
        for name, epoch, count in rows:
            device = self.world.devices.get(name)
            if device is None:
                continue  # hostile: what it counts is its own word
            if epoch not in device.wiped_put:
                totals[name] = totals.get(name, 0) + count
        for name, count in totals.items():
            put = self.world.devices[name].put[0]
            self.expect(
                count <= put,
                "each inference is counted once",
                f"the hub counts {count} inferences of {name}, which has told {put}",
            )

    # The end

    def astray(self) -> str:
        """Who has not converged and what the rollout says, in words; empty when all have."""
        last = self.world.hub.rollouts()[-1]
        who = self._behind()
        if who or last.state != "completed":
            return f"{who or 'all run it'}; rollout {last.id} is {last.state}: {last.reason}"
        return ""

    def _behind(self) -> str:
        world = self.world
        wanted = next(
            release for release in world.catalogue.releases if release.version == FINAL["digits"]
        )
        for name, device in world.devices.items():
            if name in self.away:
                continue
            if device.supervisor is None:
                return f"{name} is off"
            runner = device.supervisor.runners.get("main")
            if runner is None or runner.pointer is None:
                return f"{name} has nothing committed"
            if runner.pointer.goal.manifest != wanted.sha256:
                row = runner.row
                return (
                    f"{name} runs {runner.pointer.goal.version}, its update is {row.state} "
                    f"({row.refusal or 'no refusal'}: {row.detail or runner.waiting_for})"
                )
            if not device.serving("main"):
                return f"{name} does not serve"
        return ""

    def final(self, here: list["Device"]) -> None:
        """Everyone has stopped in good order: what was counted is at the hub, once."""
        self._counted(exactly=True)
        with self.world.hub.store.read() as session:
            rows = session.connection().execute(text(
                "SELECT device, epoch, payload FROM summary_window"
            )).fetchall()  # fmt: skip
        found: dict[str, tuple[int, int]] = {}
        for name, epoch, payload in rows:
            device = self.world.devices.get(name)
            if device is not None and epoch not in device.wiped_put:
                header = summary_wire.peek(payload)
                counts = header.summary.counts  # type: ignore[union-attr]  # known here
                had = found.get(name, (0, 0))
                found[name] = had[0] + counts.inferences, had[1] + counts.labels_unmatched
        for device in here:
            self.expect(
                topics.down(device.name, "directive") in self.world.broker.retained,
                "the broker keeps each device's directive",
                f"{device.name} would find none after a restart",
            )
            all_of_it = device.inferences, device.inferences * (device.inferences + 1) // 2
            due = all_of_it[0] - device.lost[0], all_of_it[1] - device.lost[1]
            self.expect(
                device.outbox.stats().rows == 0,
                "the outbox empties",
                f"{device.name} still holds {device.outbox.stats().rows} rows",
            )
            self.expect(
                device.put == due,
                "each inference is counted once",
                f"{device.name} answered {all_of_it[0]}, lost {device.lost[0]} to power cuts, "
                f"but its windows hold {device.put[0]}",
            )
            self.expect(
                found.get(device.name, (0, 0)) == device.put,
                "each inference is counted once",
                f"{device.name} has told {device.put[0]} inferences, the hub counts "
                f"{found.get(device.name, (0, 0))[0]}",
            )
