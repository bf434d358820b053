"""What may go wrong, and what operators may do: each a function of the world, by name.

To write a fault: a function ``(world, fault)`` with ``@fault(weight)``; ``fault.device`` is the
device it befalls, ``fault.size`` between 0 and 1 how bad it is. It must end by itself, or be ended
by ``heal``. It may only use what the doubles offer; the product's code is never touched.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muster_protocol.wire import directive as d
from muster_protocol.wire import topics
from muster_protocol.wire.directive import Directive, Slot
from sim.disk import rot
from support.tuf_repository import NOW

if TYPE_CHECKING:
    from sim.world import World


@dataclass(frozen=True)
class Fault:
    at: float
    kind: str
    device: str
    size: float

    def __str__(self) -> str:
        return f"{self.kind} of {self.device}, size {self.size:.2f}"


Befall = Callable[["World", Fault], None]
KINDS: dict[str, Befall] = {}
WEIGHTS: dict[str, float] = {}
FIRST_SECONDS = 20.0
"""Until then nothing goes wrong: the fleet has something to lose."""


def fault(weight: float) -> Callable[[Befall], Befall]:
    """Register a kind of fault; ``weight`` is how often it is drawn."""

    def register(act: Befall) -> Befall:
        KINDS[act.__name__] = act
        WEIGHTS[act.__name__] = weight
        return act

    return register


def draw(rng: random.Random, devices: list[str], count: int, end: float) -> list[Fault]:
    """A plan: ``count`` faults over the time up to ``end``, an early partition among them."""

    def fault(kind: str, before: float) -> Fault:
        at = round(rng.uniform(FIRST_SECONDS, before), 1)
        return Fault(at, kind, rng.choice(devices), round(rng.random(), 3))

    kinds = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count - 1)
    drawn = [fault("partition", end / 2), *(fault(kind, end) for kind in kinds)]
    return sorted(drawn, key=lambda fault: (fault.at, fault.kind, fault.device))


def heal(world: "World") -> None:
    """The faults stop: everything that was broken for a while works again."""
    world.faults_over = True
    world.hub.store.busy = 0
    for device in world.devices.values():
        device.disk.full = device.disk.full_at_commit = device.disk.full_in_assembly = False
        device.disk.bad_chunks = 0
        device.disk.cut_at_commit = False
        device.machine_until = device.weak_until = 0.0
        device.disk.fuse = None
        device.stalled_until = device.slow_until = 0.0
        device.clock.wall_offset = 0.0
        device.clock.trusted = "synchronised"
        device.wake(0.0)
    world.broker.mend()


# The network


@fault(10)
def cut(world: "World", fault: Fault) -> None:
    world.broker.cut(fault.device, 5.0 + 120.0 * fault.size**2, "the line is cut")


@fault(1)
def partition(world: "World", fault: Fault) -> None:
    """A whole site is away."""
    site = world.devices[fault.device].labels["site"]
    seconds = 60.0 + 400.0 * fault.size
    world.trace.add("fault", f"site {site} is cut off for {seconds:.0f} s")
    for device in world.devices.values():
        if device.labels["site"] == site:
            world.broker.cut(device.name, seconds, "the site is cut off")


@fault(10)
def duplicates(world: "World", fault: Fault) -> None:
    world.broker.weather[fault.device].duplicate += 1 + int(8 * fault.size)


@fault(10)
def reordering(world: "World", fault: Fault) -> None:
    world.broker.weather[fault.device].reorder += 1 + int(5 * fault.size)


@fault(8)
def loss_upward(world: "World", fault: Fault) -> None:
    """The broker takes messages, and a full queue drops them."""
    world.broker.weather[fault.device].lose_up += 1 + int(4 * fault.size)


@fault(4)
def slow_line(world: "World", fault: Fault) -> None:
    world.broker.weather[fault.device].slow_until = world.clock.now + 60.0 * fault.size


@fault(2)
def broker_restart(world: "World", fault: Fault) -> None:
    world.broker.restart(1.0 + 10.0 * fault.size, lose=False)


@fault(3)
def broker_forgets(world: "World", fault: Fault) -> None:
    """The broker comes back without its retained messages and sessions."""
    world.broker.restart(1.0 + 10.0 * fault.size, lose=True)


@fault(4)
def chunk_lost(world: "World", fault: Fault) -> None:
    chunks = sorted(topic for topic in world.broker.retained if topics.parse_chunk(topic))
    if chunks:
        world.broker.retained.pop(chunks[int(fault.size * (len(chunks) - 1))])


@fault(4)
def chunk_altered(world: "World", fault: Fault) -> None:
    chunks = sorted(topic for topic in world.broker.retained if topics.parse_chunk(topic))
    if chunks:
        topic = chunks[int(fault.size * (len(chunks) - 1))]
        world.broker.retained[topic] = b"altered" + world.broker.retained[topic][7:]


@fault(6)
def stale_directive(world: "World", fault: Fault) -> None:
    """A directive of some time ago is retained again: a replay, or an old copy of the broker."""
    old = world.directives.get(fault.device, [])
    if old:
        topic = topics.down(fault.device, "directive")
        world.broker.publish(topic, old[int(fault.size * (len(old) - 1))], retain=True)


@fault(3)
def rogue_directive(world: "World", fault: Fault) -> None:
    """A thief with the director's key asks for a bundle that no release key has signed.

    It is of the generation in force: one of a later generation would lock the hub out until the
    director's epoch is raised, which is an operator's answer to a stolen key, not a fault to heal.
    """
    adopted = world.watch.generations.get(fault.device, (1, 0))
    rogue = world.catalogue.rogue
    wanted = Directive(
        device=fault.device, epoch=1, generation=max(adopted[1], 1), issued=int(NOW),
        expires=int(NOW) + 86_400, slots={"main": Slot(rogue.goal)},
        window_seconds=world.window_seconds,
    )  # fmt: skip
    for name, data in rogue.blobs.items():
        world.broker.publish(topics.chunk(name), data, retain=True)
    envelope = world.catalogue.repository.envelope(d.encode(wanted))
    world.broker.publish(topics.down(fault.device, "directive"), envelope, retain=True)


# The device


@fault(8)
def power_cut(world: "World", fault: Fault) -> None:
    device = world.devices[fault.device]
    if device.running:
        device.power_cut(2.0 + 60.0 * fault.size)


@fault(8)
def power_cut_between_writes(world: "World", fault: Fault) -> None:
    world.devices[fault.device].disk.fuse = 1 + int(12 * fault.size)


@fault(3)
def power_cut_at_commit(world: "World", fault: Fault) -> None:
    """... or right after the transaction that commits a model."""
    world.devices[fault.device].disk.cut_at_commit = True


@fault(8)
def agent_killed(world: "World", fault: Fault) -> None:
    world.devices[fault.device].crash()


@fault(6)
def disk_full(world: "World", fault: Fault) -> None:
    disk = world.devices[fault.device].disk
    disk.full, disk.full_at_commit = True, fault.size > 0.5

    def freed() -> None:
        disk.full = False

    world.clock.after(5.0 + 60.0 * fault.size, freed)


@fault(3)
def disk_fills(world: "World", fault: Fault) -> None:
    """Chunks fit, the bundle does not: something else has written meanwhile."""
    disk = world.devices[fault.device].disk
    disk.full_in_assembly = True

    def freed() -> None:
        disk.full_in_assembly = False

    world.clock.after(20.0 + 100.0 * fault.size, freed)


@fault(4)
def disk_slow(world: "World", fault: Fault) -> None:
    """Putting a bundle together takes half a minute, in which other things happen."""
    world.devices[fault.device].slow_until = world.clock.now + 30.0 + 90.0 * fault.size


@fault(4)
def chunks_rot(world: "World", fault: Fault) -> None:
    """Bad cells: what is fetched next is not what is read back."""
    world.devices[fault.device].disk.bad_chunks += 1 + int(3 * fault.size)


@fault(5)
def stall(world: "World", fault: Fault) -> None:
    """A slow disk or a busy processor: the agent's loop stands still."""
    device = world.devices[fault.device]
    device.stalled_until = world.clock.now + 20.0 * fault.size
    device.disturbed_at = device.stalled_until


@fault(3)
def clock_1970(world: "World", fault: Fault) -> None:
    clock = world.devices[fault.device].clock
    clock.wall_offset, clock.trusted = -float(NOW), "unknown"


@fault(4)
def clock_jump(world: "World", fault: Fault) -> None:
    clock = world.devices[fault.device].clock
    clock.wall_offset += (fault.size - 0.5) * 7200.0


@fault(2)
def clock_spoofed(world: "World", fault: Fault) -> None:
    """A time server lies by years; nothing may be installed until it stops."""
    device = world.devices[fault.device]
    device.clock.wall_offset = 400 * 86_400.0

    def stops() -> None:
        device.clock.wall_offset = 0.0

    world.clock.after(20.0 + 100.0 * fault.size, stops)


@fault(3)
def bundle_rots(world: "World", fault: Fault) -> None:
    device = world.devices[fault.device]
    bundles = sorted((device.directory / "store" / "bundles").glob("*"))
    if bundles and rot(bundles[int(fault.size * (len(bundles) - 1))], device.rng):
        device.rotten = True
        device.note("a byte of an installed model rots")


@fault(3)
def trust_truncated(world: "World", fault: Fault) -> None:
    """A file of the trust store is cut to nothing, and the device starts again."""
    device = world.devices[fault.device]
    if device.running:
        device.trust.truncate()
        world.watch.truncated(device)
        device.power_cut(3.0)


@fault(1)
def card_replaced(world: "World", fault: Fault) -> None:
    if fault.size < 0.3:
        world.devices[fault.device].wipe()


@fault(6)
def machine_runs(world: "World", fault: Fault) -> None:
    """The interlock: nobody may swap while the machine is at work."""
    world.devices[fault.device].machine_until = world.clock.now + 15.0 + 60.0 * fault.size


@fault(3)
def inputs_move(world: "World", fault: Fault) -> None:
    """What its models are asked is not what they were trained on, from now on."""
    device = world.devices[fault.device]
    device.inputs.move(device.inferences + 1)


# Models


@fault(3)
def weak_supply(world: "World", fault: Fault) -> None:
    """The board browns out whenever a second model is loaded: a boot loop in the making."""
    world.devices[fault.device].weak_until = world.clock.now + 60.0 + 90.0 * fault.size


@fault(6)
def worker_crash(world: "World", fault: Fault) -> None:
    device = world.devices[fault.device]
    alive = [worker for worker in device.workers if worker.ready and not worker.ended]
    if alive:
        device.disturbed_at = world.clock.now
        alive[int(fault.size * (len(alive) - 1))].die(-11)


# The hub


@fault(2)
def hub_killed(world: "World", fault: Fault) -> None:
    world.hub.crash(2.0 + 40.0 * fault.size)


@fault(3)
def hub_database_busy(world: "World", fault: Fault) -> None:
    world.hub.store.busy += 1 + int(4 * fault.size)


# Operators


@fault(2)
def operator_pauses(world: "World", fault: Fault) -> None:
    _move(world, fault, "pause")


@fault(5)
def operator_resumes(world: "World", fault: Fault) -> None:
    _move(world, fault, "resume")


@fault(1)
def operator_aborts(world: "World", fault: Fault) -> None:
    _move(world, fault, "abort")


@fault(6)
def operator_rolls_out(world: "World", fault: Fault) -> None:
    world.operator.next_rollout(fault.size)


@fault(1)
def operator_revokes(world: "World", fault: Fault) -> None:
    """... and some minutes later takes it back, as a re-enrolment does."""
    world.operator.revoke(fault.device, 30.0 + 120.0 * fault.size)


def _move(world: "World", fault: Fault, verb: str) -> None:
    wanted = ("paused",) if verb == "resume" else ("running",)
    moving = [row for row in world.hub.rollouts() if row.state in wanted]
    if moving:
        number = moving[-1].id or 0
        if world.hub.move(verb, number):
            world.trace.add("operator", f"{verb}s rollout {number}")
