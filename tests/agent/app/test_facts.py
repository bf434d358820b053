"""What a device knows of itself."""

import typing

import pytest

from muster_agent.app import doctor, facts
from muster_agent.base.config import FILE, load
from muster_agent.isolation.cage import Rung, available
from muster_protocol.signals import baseline
from muster_protocol.wire import manifest, messages
from support import in_time


def test_free_memory_is_the_systems_or_what_the_services_own_limit_leaves(tmp_path, monkeypatch):
    (meminfo := tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:     500 kB\n")
    (own := tmp_path / "own").write_text("0::/system.slice/muster-agent.service\n")
    group = tmp_path / "system.slice" / "muster-agent.service"
    group.mkdir(parents=True)
    for name, at in {"MEMINFO": meminfo, "OWN_CGROUP": own, "CGROUPS": tmp_path}.items():
        monkeypatch.setattr(facts, name, at)
    assert facts.memory_free_bytes() == 500 * 1024
    (group / "memory.current").write_text("300000\n")
    (group / "memory.stat").write_text("anon 100\ninactive_file 50000\n")
    (group / "memory.max").write_text("max\n")
    assert facts.memory_free_bytes() == 500 * 1024
    (group / "memory.max").write_text("400000\n")
    assert facts.memory_free_bytes() == 150_000
    meminfo.unlink()
    assert facts.memory_free_bytes() == 0


def test_this_machine_has_some_memory_free():
    assert 0 < facts.memory_free_bytes() <= facts.memory_bytes()


def test_how_well_the_kernel_isolates_is_a_fact_of_the_device(tmp_path):
    assert facts.read(tmp_path).isolation == available()


def test_each_rung_can_be_reported():
    words = typing.get_args(typing.get_type_hints(messages.Facts)["isolation"])
    assert set(words) == {*Rung, ""}


@pytest.mark.parametrize(
    ("rung", "policy", "grade"),
    [
        (Rung.FULL, "required", "ok"), (Rung.NO_LANDLOCK, "required", "ok"),
        (Rung.ONE_THREAD, "auto", "ok"), (Rung.NONE, "auto", "warn"),
        (Rung.NONE, "required", "fail"),
    ],
)  # fmt: skip
def test_doctor_says_what_the_kernel_lacks(tmp_path, rung, policy, grade):
    (tmp_path / FILE).write_text(
        f'device = "press-7"\nisolation = "{policy}"\n[broker]\nhost = "hub.example"\n'
    )
    finding = doctor._isolation(load(tmp_path), rung)
    assert finding.grade == grade
    assert ("seccomp" in finding.line) == (rung is Rung.NONE)


def test_an_agent_that_reads_baselines_in_time_says_so() -> None:
    trained = baseline.encode(in_time.fitted())
    assert baseline.format_of(trained) == baseline.FORMAT_IN_TIME
    assert baseline.decode(trained).normal is not None
    assert manifest.BASELINE_UNDERSTANDS in facts.UNDERSTANDS
