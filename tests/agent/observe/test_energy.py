"""The price of processor time in energy: counters that wrap, machines that don't tell."""

import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from muster_agent.observe.energy import (
    BUSY_SECONDS_MIN,
    EnergyPrice,
    EnergyReading,
    joules_per_cpu_second,
    read_rapl,
)

WRAP = 262_143.0


@given(
    begin=st.floats(0, WRAP, exclude_max=True),
    used=st.floats(0, WRAP, exclude_max=True),
    busy=st.floats(BUSY_SECONDS_MIN, 1e4),
)
def test_a_counter_that_wraps_around_counts_as_one_that_goes_on(begin, used, busy):
    before = EnergyReading((begin,), (WRAP,), 100.0)
    after = EnergyReading(((begin + used) % WRAP,), (WRAP,), 100.0 + busy)
    price = joules_per_cpu_second(before, after)
    seconds = after.busy_seconds - before.busy_seconds
    if seconds >= BUSY_SECONDS_MIN:
        assert price is not None
        # A whole turn can't be told from none.
        assert price * seconds == pytest.approx(used, abs=1e-6 * WRAP) or used > 0.999 * WRAP


def test_packages_add_up():
    before = EnergyReading((10.0, 20.0), (WRAP, WRAP), 0.0)
    after = EnergyReading((30.0, 50.0), (WRAP, WRAP), 10.0)
    assert joules_per_cpu_second(before, after) == 5.0


def test_too_short_a_time_and_other_packages_give_no_price():
    reading = EnergyReading((10.0,), (WRAP,), 0.0)
    assert (
        joules_per_cpu_second(reading, EnergyReading((11.0,), (WRAP,), BUSY_SECONDS_MIN / 2))
        is None
    )
    assert joules_per_cpu_second(reading, EnergyReading((11.0, 1.0), (WRAP, WRAP), 9.0)) is None


def test_the_last_price_holds_while_nothing_new_can_be_measured():
    readings = iter(
        [
            EnergyReading((0.0,), (WRAP,), 0.0),
            EnergyReading((60.0,), (WRAP,), 10.0),
            EnergyReading((60.1,), (WRAP,), 10.01),
            None,
            EnergyReading((160.0,), (WRAP,), 20.0),
        ]
    )
    price = EnergyPrice(lambda: next(readings), watts_per_core=3.0)
    assert price.source == "rapl"
    assert [price.now() for _ in range(4)] == [6.0, 6.0, 6.0, 10.0]


def test_where_nothing_can_be_measured_the_operator_says_or_there_is_no_estimate():
    configured, silent = EnergyPrice(lambda: None, 4.0), EnergyPrice(lambda: None)
    assert (configured.source, configured.now()) == ("configured", 4.0)
    assert (silent.source, silent.now()) == ("", 0.0)


def test_counters_are_read_of_whole_packages_only(tmp_path: Path):
    for name, joules in (("intel-rapl:0", 5), ("intel-rapl:0:0", 3), ("intel-rapl:1", 7)):
        zone = tmp_path / name
        zone.mkdir()
        (zone / "energy_uj").write_text(f"{joules}000000\n")
        (zone / "max_energy_range_uj").write_text("262143000000\n")
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 9999 50 4 6 10 77 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    ticks = os.sysconf("SC_CLK_TCK")
    assert read_rapl(tmp_path, stat) == EnergyReading((5.0, 7.0), (262_143.0,) * 2, 170 / ticks)


@pytest.mark.parametrize("text", [None, "", "not a number"])
def test_a_machine_that_does_not_tell_has_no_reading(tmp_path: Path, text: str | None):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    if text is not None:
        (zone / "energy_uj").write_text(text)
    assert read_rapl(tmp_path) is None
