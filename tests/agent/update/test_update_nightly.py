"""A plant on a thin line that is switched off every night."""

from collections import deque

from muster_agent.link.memory import InFlight
from muster_protocol.wire import topics
from muster_protocol.wire.limits import CHUNK_BYTES, JOURNAL_RESUMES_MAX
from muster_protocol.wire.manifest import Probation
from support.agent_world import Device, World

DAY_SECONDS, CHUNK_SECONDS = 20, 4
CHUNKS = 60
NIGHTS_MAX = 60


class ThinLine:
    """Lets one chunk through every few seconds, and remembers which came."""

    def __init__(self, world: World) -> None:
        self.waiting: deque[InFlight] = deque()
        self.passed: list[str] = []
        world.broker.fault = self.hold

    def hold(self, delivery: InFlight) -> list[InFlight]:
        if topics.parse_chunk(delivery.message.topic) is None:
            return [delivery]
        self.waiting.append(delivery)
        return []

    def day(self, device: Device) -> None:
        for second in range(DAY_SECONDS):
            if second % CHUNK_SECONDS == 0 and self.waiting:
                message = self.waiting.popleft().message
                if device.link.follows(message.topic):
                    device.link.deliver(message)
                    self.passed.append(message.topic)
            device.run(1.0)
        self.waiting.clear()


def test_nightly_power_cuts_delay_a_long_download_and_a_probation_but_undo_nothing(tmp_path):
    world = World()
    device = Device(world, tmp_path)
    device.boot()
    world.direct(world.release("1"))
    device.run(60)
    assert device.step == "committed"
    device.cut()
    line = ThinLine(world)
    world.direct(world.release("2", size=CHUNKS * CHUNK_BYTES, probation=Probation(seconds=240.0)))
    nights: dict[str, int] = {}
    for _ in range(NIGHTS_MAX):
        device.boot()
        device.run(0.5)
        assert device.serving in (["1"], ["2"])
        line.day(device)
        if device.step == "committed" and device.serving == ["2"]:
            break
        nights[device.step] = nights.get(device.step, 0) + 1
        device.cut()
    assert (device.step, device.serving) == ("committed", ["2"])
    assert nights["fetching"] > JOURNAL_RESUMES_MAX
    assert nights["probation"] > JOURNAL_RESUMES_MAX
    assert set(nights) <= {"fetching", "verifying", "starting", "probation"}
    assert device.events_of("rolled_back") == []
    assert device.events_of("refused") == []
    assert len(line.passed) == len(set(line.passed)), "a chunk that was kept came again"
    device.cut()
