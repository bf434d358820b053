"""Before a byte of a model is fetched, and while it is: what a device can run, and may fetch."""

import datetime as dt
import platform

import pytest

from muster_agent.app.facts import cpu, cpu_features
from muster_agent.fetch.http_source import HttpAnswer
from muster_agent.fetch.meter import Allowance
from muster_agent.update.preflight import Hardware, refusal
from muster_protocol.wire import chunks, manifest, topics
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import BROKER_CACHE_BYTES_MAX, CHUNK_BYTES, MIB
from muster_protocol.wire.maintenance import MaintenanceWindow
from muster_protocol.wire.manifest import Build
from support.agent_world import Device, World

UTC = dt.UTC
MODEL_BYTES = 20 * CHUNK_BYTES


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path)
    yield made
    if made.supervisor is not None:
        made.cut()


def set_clock(world, hour):
    now = dt.datetime.fromtimestamp(world.clock.wall(), UTC)
    then = now.replace(hour=hour, minute=15) - dt.timedelta(days=1)  # Before metadata expire.
    world.clock.wall_offset += (then - now).total_seconds()


def fetched(device):
    return sum(path.stat().st_size for path in (device.directory / "store/chunks").glob("*/*"))


def test_a_rate_limit_spreads_a_download_and_says_so(world, device):
    device.boot(allowance=Allowance(bytes_per_second=CHUNK_BYTES))
    world.direct(world.release("1", size=MODEL_BYTES))
    device.run(8)
    assert 5 * CHUNK_BYTES < fetched(device) < 15 * CHUNK_BYTES
    assert device.report().update.waiting_for == "the rate limit"
    device.run(60)
    assert device.step == "committed"


def test_a_daily_budget_pauses_until_tomorrow_and_survives_restarts(world, device):
    allowance = Allowance(bytes_per_day=10 * CHUNK_BYTES)
    set_clock(world, hour=23)
    device.boot(allowance=allowance, time_zone=UTC)
    world.direct(world.release("1", size=MODEL_BYTES))
    for _ in range(3):
        device.run(100)
        assert fetched(device) <= 15 * CHUNK_BYTES  # The budget and one window.
        assert "today's 1.25 MiB are fetched" in device.report().update.waiting_for
        device.cut()
        device.boot(allowance=allowance, time_zone=UTC)
    device.run(3600)
    assert (device.step, device.refusal) == ("committed", None)


def test_models_are_fetched_in_the_hours_for_it_only_and_resume_without_fetching_twice(
    world, device
):
    set_clock(world, hour=21)
    device.boot(allowance=Allowance(hours=(MaintenanceWindow("22:00", "05:00"),)), time_zone=UTC)
    world.direct(world.release("1", size=MODEL_BYTES))
    device.run(600)
    assert (device.step, fetched(device)) == ("fetching", 0)
    assert "22:00-05:00" in device.report().update.waiting_for
    device.run(3600)
    assert device.step == "committed"


def test_a_device_that_does_not_know_the_hour_fetches_at_any(world, device):
    world.clock.trusted = "unknown"
    now = dt.datetime.fromtimestamp(world.clock.wall(), UTC)
    never = (now + dt.timedelta(hours=2)).strftime("%H:%M")
    closed = (now + dt.timedelta(hours=3)).strftime("%H:%M")
    device.boot(allowance=Allowance(hours=(MaintenanceWindow(never, closed),)), time_zone=UTC)
    world.direct(world.release("1"))
    device.run(60)
    assert device.step == "committed"


def from_http(world, device, **settings):
    """A version that only the HTTP source has, in ranges; the broker knows its manifest alone."""
    device.boot(**settings)
    goal = world.release("1", size=MODEL_BYTES)
    for name in world.http:
        if name != goal.manifest:
            world.broker.publish(topics.chunk(name), b"", retain=True)
    world.direct(goal, sources=1)
    return goal


def test_what_the_broker_lacks_comes_in_ranges_and_a_restart_fetches_nothing_twice(world, device):
    from_http(world, device, allowance=Allowance(bytes_per_second=4 * CHUNK_BYTES))
    device.run(18)
    first = [digest for run in device.ranges for digest in run.digests]
    assert 0 < len(first) < 20
    kept = fetched(device)
    device.cut()
    device.ranges.clear()
    device.boot()
    device.run(60)
    assert device.step == "committed"
    again = [digest for run in device.ranges for digest in run.digests] + device.gets
    assert kept > 4 * CHUNK_BYTES
    assert sum(digest in first for digest in again) <= 8
    assert len(device.gets) < 12


def test_a_bundle_larger_than_the_broker_keeps_comes_by_http_from_its_first_byte(world, device):
    size = BROKER_CACHE_BYTES_MAX + 1
    names = [chunks.sha256_hex(str(n).encode()) for n in range(-(-size // CHUNK_BYTES))]
    index = world.publish_chunks(chunks.cut(chunks.index_of(names)))
    golden = world.publish_chunks([memoryview(b"golden")])
    files = (
        manifest.File("model.onnx", size, "a" * 64, index),
        manifest.File("golden.npz", 6, golden[0]),
    )
    device.boot()
    world.direct(world.release("1", files=files), sources=1)
    device.run(4)
    assert (device.gets[0], device.ranges[0].digests[0]) == (index[0], names[0])
    assert device.report().update.fetched_from.startswith("https://")


def test_what_the_broker_was_found_to_lack_is_not_looked_for_there_again(world, device):
    from_http(world, device, allowance=Allowance(bytes_per_second=4 * CHUNK_BYTES))
    device.run(18)
    seen = len(device.ranges)
    assert seen
    device.supervisor.delivery.refetch(world.clock.seconds)
    device.run(2)
    assert device.ranges[seen:]


def test_an_answer_to_a_fetch_that_has_ended_is_of_no_source_of_the_next(world, device):
    goal = from_http(world, device, allowance=Allowance(bytes_per_second=4 * CHUNK_BYTES))
    device.run(18)
    world.direct(goal, sources=0)
    device.run(1)
    device.supervisor.delivery.refetch(world.clock.seconds)
    for number in range(4):
        for digest, data in world.http.items():
            device.supervisor.handle(HttpAnswer(number, digest, data), world.clock.seconds)
    world.direct(goal, sources=2)
    device.run(1)
    device.supervisor.delivery.refetch(world.clock.seconds)
    device.run(90)
    assert device.step == "committed"


def test_a_source_without_ranges_serves_chunks_by_name(world, device):
    world.ranges = False
    from_http(world, device)
    device.run(60)
    assert device.step == "committed"
    assert len(device.ranges) <= 2
    assert len(device.gets) >= 20


def test_a_daily_budget_holds_for_ranges_too(world, device):
    set_clock(world, hour=12)
    from_http(world, device, allowance=Allowance(bytes_per_day=10 * CHUNK_BYTES), time_zone=UTC)
    device.run(600)
    assert 8 * CHUNK_BYTES < fetched(device) <= 15 * CHUNK_BYTES  # The budget and one window.
    assert device.ranges


def test_an_update_over_its_byte_budget_is_refused_before_its_model_is_fetched(world, device):
    device.boot(allowance=Allowance(bytes_per_bundle=MIB))
    world.direct(world.release("1", size=MODEL_BYTES))
    device.run(30)
    assert (device.step, device.refusal) == ("failed", Refusal.TOO_LARGE)
    assert "fetch_bytes_per_bundle" in device.report().update.detail
    assert fetched(device) < CHUNK_BYTES
    world.direct(world.release("2", size=MIB // 2))
    device.run(60)
    assert device.step == "committed"


@pytest.mark.parametrize(
    ("hardware", "why"),
    [
        (Hardware(memory_bytes=MIB // 2), Refusal.NO_MEMORY),
        (Hardware(runtimes={"onnx": "1.16.3"}), Refusal.NO_RUNTIME),
        (Hardware(runtimes={"onnx": "1.20.1"}), None),
        (Hardware(runtimes={"onnx": "1.99.0"}), None),
        (Hardware(runtimes={"onnx": "nightly"}), None),
        (Hardware(), None),
    ],
)
def test_a_device_knows_from_its_own_facts_what_it_cannot_run(hardware, why):
    found = refusal(Build("onnx", "model.onnx", MIB, opset=21), hardware)
    assert (found[0] if found else None) == why


@pytest.mark.parametrize(
    ("cpu", "missing"),
    [
        ({"x86_64", "avx2", "fma"}, None),
        ({"x86_64", "fma", "sse2"}, "avx2"),
        ({"aarch64", "asimd"}, "x86_64, avx2"),
        (set(), None),
    ],
)
def test_a_build_for_another_processor_is_refused_by_what_that_lacks(cpu, missing):
    build = Build("onnx", "model.onnx", MIB, cpu=("x86_64", "avx2"))
    found = refusal(build, Hardware(cpu=frozenset(cpu)))
    if missing is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == Refusal.NO_RUNTIME
        assert f"needs a processor with {missing}," in found[1]


def test_only_what_every_core_has_counts():
    big = "processor : 0\nFeatures : fp asimd asimddp\n\n"
    little = "processor : 1\nFeatures\t: fp asimd\n"
    assert cpu_features(big + little, "aarch64") == {"aarch64", "fp", "asimd"}
    assert cpu_features("processor: 0\nflags: sse2 avx2\n", "x86_64") == {"x86_64", "sse2", "avx2"}
    assert cpu_features("nothing known", "riscv64") == frozenset()


def test_this_machine_knows_its_own_processor():
    assert platform.machine() in cpu()


def test_a_model_for_another_processor_is_refused_before_it_is_fetched(world, device):
    device.hardware = Hardware(cpu=frozenset({"aarch64"}))
    device.boot()
    build = Build("onnx", "model.onnx", MIB, cpu=("x86_64",))
    world.direct(world.release("1", size=MODEL_BYTES, builds=(build,)))
    device.run(30)
    assert (device.step, device.refusal) == ("failed", Refusal.NO_RUNTIME)
    assert fetched(device) < CHUNK_BYTES


def test_a_model_the_device_cannot_run_is_refused_before_it_is_fetched(world, device):
    device.hardware = Hardware(memory_bytes=64 * MIB)
    device.boot()
    build = Build("onnx", "model.onnx", 128 * MIB)
    world.direct(world.release("1", size=MODEL_BYTES, builds=(build,)))
    device.run(30)
    assert (device.step, device.refusal) == ("failed", Refusal.NO_MEMORY)
    assert fetched(device) < CHUNK_BYTES


def test_what_runs_already_goes_on_whatever_preflight_thinks_of_it_now(world, device):
    device.boot()
    build = Build("onnx", "model.onnx", 128 * MIB)
    world.direct(world.release("1", builds=(build,)))
    device.run(60)
    device.cut()
    device.hardware = Hardware(memory_bytes=64 * MIB)
    device.boot()
    device.run(10)
    assert (device.step, device.serving) == ("committed", ["1"])


def test_a_disk_that_fills_up_is_looked_at_again_and_again_until_there_is_room(world, device):
    device.boot(free_bytes=1000)
    world.direct(world.release("1"))
    for _ in range(20):
        device.run(90)
        assert (device.step, device.refusal) == ("failed", Refusal.NO_SPACE)
    device.free_bytes = 1 << 40
    device.run(90)
    assert device.step in ("probation", "committed")
