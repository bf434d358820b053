"""What a device knows of itself."""

from muster_agent.app import facts


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
