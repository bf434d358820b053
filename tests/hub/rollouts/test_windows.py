"""Maintenance windows: in the device's own time zone, with summer time, said in its words."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from muster_hub.rollouts.forecast import forecast
from muster_hub.rollouts.maintenance import MaintenanceWindow, refusal, skipped
from muster_hub.rollouts.members import Member, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan, read_plan
from muster_protocol.wire.errors import ProtocolError

NIGHT = MaintenanceWindow(start="22:00", end="05:00", days=("mon", "tue", "wed", "thu", "fri"))
BERLIN = {"timezone": "Europe/Berlin"}


def at(text: str, zone: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_the_window_is_that_of_the_devices_wall_clock():
    now = at("2026-03-04T23:30", "Europe/Berlin")
    assert refusal([NIGHT], BERLIN, now) is None
    assert refusal([NIGHT], {"timezone": "America/Chicago"}, now) == (
        "its maintenance window opens Wed 04 Mar 22:00 (America/Chicago)"
    )


def test_a_window_past_midnight_belongs_to_the_day_it_began():
    assert refusal([NIGHT], BERLIN, at("2026-03-07T04:59", "Europe/Berlin")) is None
    assert refusal([NIGHT], BERLIN, at("2026-03-07T05:00", "Europe/Berlin")) == (
        "its maintenance window opens Mon 09 Mar 22:00 (Europe/Berlin)"
    )
    assert refusal([NIGHT], BERLIN, at("2026-03-09T04:59", "Europe/Berlin")) is not None


def test_the_window_moves_with_summer_time():
    window = MaintenanceWindow(start="06:00", end="06:30")
    for day in ("2026-03-28", "2026-03-29", "2026-03-30"):
        assert refusal([window], BERLIN, at(f"{day}T06:10", "Europe/Berlin")) is None
        assert refusal([window], BERLIN, at(f"{day}T05:50", "Europe/Berlin")) is not None


def test_one_open_window_is_enough_and_no_window_is_always():
    other = MaintenanceWindow(start="12:00", end="13:00", time_zone="Asia/Tokyo")
    assert refusal([NIGHT, other], {}, at("2026-03-04T12:30", "Asia/Tokyo")) is None
    assert refusal([], {}, 0.0) is None


def test_a_device_whose_zone_nobody_knows_waits_and_says_so():
    reason = refusal([NIGHT], {"timezone": "Mars/Olympus"}, 0.0)
    assert reason == "the device's time zone 'Mars/Olympus' is not known to the hub"


@pytest.mark.parametrize(
    "values",
    [
        {"start": "25:00", "end": "01:00"},
        {"start": "9:00", "end": "10:00"},
        {"start": "22:00", "end": "23:00", "time_zone": "Mars/Olympus"},
        {"start": "22:00", "end": "23:00", "days": ["noday"]},
    ],
)
def test_a_window_that_can_not_be_read_is_refused(values):
    with pytest.raises(ProtocolError, match="rollout plan"):
        read_plan({"windows": [values]})


@pytest.mark.parametrize(
    ("start", "end", "happens"),
    [
        ("02:00", "03:00", "does not open"),
        ("02:15", "02:45", "opens at 03:15"),
        ("02:30", "06:00", "opens at 03:30"),
    ],
)
def test_a_window_that_begins_in_a_skipped_hour_is_warned_of_before_it_comes(start, end, happens):
    window = MaintenanceWindow(start=start, end=end)
    (words,) = skipped([window], BERLIN, at("2026-01-10T12:00", "Europe/Berlin"))
    assert words == (
        f"the window {start}-{end} of Sun 29 Mar 2026 {happens} in Europe/Berlin: "
        "the clocks go forward over its start"
    )
    assert skipped([window], {"timezone": "Asia/Tokyo"}, at("2026-01-10T12:00", "UTC")) == []


def test_a_window_that_begins_before_it_or_on_another_day_is_not_warned_of():
    longer = MaintenanceWindow(start="01:30", end="03:00")
    on_mondays = MaintenanceWindow(start="02:00", end="03:00", days=("mon",))
    now = at("2026-01-10T12:00", "Europe/Berlin")
    assert skipped([longer, on_mondays, NIGHT], BERLIN, now) == []


def test_a_plan_names_what_a_change_of_clocks_takes_and_from_how_many_devices():
    plan = Plan(windows=(MaintenanceWindow(start="02:00", end="03:00"),))
    zones = ["Europe/Berlin", "Europe/Berlin", "Asia/Tokyo"]
    members = [
        Member(device=f"d{number}", labels={"timezone": zone}, online=True)
        for number, zone in enumerate(zones)
    ]
    rollout = StagedRollout(id=1, state="running", wave=CANARY, plan=plan)
    found = forecast(rollout, members, at("2026-01-10T12:00", "Europe/Berlin"))
    (words,) = found.warnings
    assert words.startswith("the window 02:00-03:00 of Sun 29 Mar 2026 does not open")
    assert words.endswith("(2 devices)")
