"""Several processes are one hub, or say why they can't be; one that dies is followed by another."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from muster_hub.app.processes import BEAT_SECONDS, GONE_SECONDS, Registration, listening_seconds
from muster_hub.app.service import serve
from muster_hub.errors import ConfigError, Conflict, HubError
from muster_hub.mqtt.broker_config import INGESTS_MAX
from muster_hub.settings.config import HubConfig
from muster_hub.settings.parts import EVERY, parse, words
from muster_hub.storage import home
from muster_hub.storage.store import Store
from support.hub_processes import DEVICES, ROWS, Plant
from support.hub_store import open_store
from support.light_agents import SLOT
from support.postgres import Postgres
from support.waiting import eventually, until


class Site:
    """Processes on one database, with a clock of the test's."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.directory = directory
        self.now = 1_000.0
        self.lost: list[str] = []

    def process(self, parts: str, directory: Path | None = None) -> Registration:
        return Registration(
            self.store, directory or self.directory, parse(parts),
            lost=lambda: self.lost.append(parts), clock=lambda _session: self.now,
        )  # fmt: skip

    def entered(self, parts: str, directory: Path | None = None) -> Registration:
        process = self.process(parts, directory)
        process.enter()
        return process


@pytest.fixture
def site(tmp_path: Path, database: str) -> Iterator[Site]:
    store = open_store(tmp_path, url=database)
    directory = tmp_path / "hub"
    directory.mkdir()
    yield Site(store, directory)
    store.close()


def test_parts_are_named_in_a_list_and_what_is_none_is_refused():
    assert parse("all") == parse("publisher,engine, ingest,api") == EVERY
    assert words(parse("ingest,api")) == "api,ingest"
    assert words(EVERY) == "all"
    for text in ("", "api,all", "api,api", "api,web"):
        with pytest.raises(ConfigError, match="api, ingest, engine, publisher"):
            parse(text)


def test_processes_of_one_directory_are_one_hub_and_others_are_refused_with_words(site, tmp_path):
    first = site.entered("api,ingest")
    second = site.entered("ingest,engine")
    assert (first.number, second.number) == (1, 2)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(Conflict, match=r"another hub works on this database: api,ingest in .*hub"):
        site.entered("engine", other)
    copied = tmp_path / "copied"
    shutil.copytree(site.directory, copied)
    first.beat()
    with pytest.raises(Conflict, match="Processes of one hub share one directory"):
        site.entered("engine", copied)
    with pytest.raises(Conflict, match="a hub is already running on this database"):
        site.entered("all")
    first.stop()
    third = site.entered("ingest")
    assert third.number == 1, "a name at the broker that is free is taken again"
    for process in (second, third):
        process.stop()
    site.entered("all", other).stop()


def test_a_whole_hub_lets_no_other_process_in(site):
    whole = site.entered("all")
    with pytest.raises(Conflict, match="a hub is already running on this database: all on"):
        site.entered("api")
    whole.stop()


def test_one_that_died_here_is_seen_to_be_dead_and_one_elsewhere_after_a_while(site, tmp_path):
    dead = site.entered("all")
    dead._let_go()  # As the kernel does; only the file stays, without its lock.
    (site.directory / "processes" / dead.id).write_text("1\n")
    site.entered("all").stop()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    silent = site.entered("all", elsewhere)
    site.now += GONE_SECONDS - 1
    with pytest.raises(Conflict):
        site.entered("all")
    site.now += 2
    taken = site.entered("api")
    silent.beat()
    assert site.lost == ["all"], "one that was only silent ends when others have its place"
    taken.stop()


def test_a_process_that_was_forgotten_takes_its_place_again_while_it_is_free(site):
    process = site.entered("ingest")
    site.now += GONE_SECONDS + 1
    site.entered("api").stop()
    process.beat()
    assert (site.lost, process.number) == ([], 1)
    process.stop()


def test_no_more_take_in_what_devices_say_than_have_names_at_the_broker(site):
    several = [site.entered("ingest") for _ in range(INGESTS_MAX)]
    assert [process.number for process in several] == list(range(1, INGESTS_MAX + 1))
    with pytest.raises(Conflict, match="no more can"):
        site.entered("ingest")
    for process in several:
        process.stop()


def test_devices_are_heard_when_every_process_that_takes_them_in_hears_them(site):
    def heard() -> float:
        return listening_seconds(site.store, lambda _session: site.now)

    assert heard() == 0
    first, second = site.entered("ingest"), site.entered("ingest")
    first.listening_seconds, second.listening_seconds = (lambda: 300.0), (lambda: 20.0)
    for process in (first, second):
        process.beat()
    assert heard() == 20
    second.stop()
    assert heard() == 300
    site.now += 4 * BEAT_SECONDS
    assert heard() == 0, "what was said long ago tells nothing of now"
    first.stop()


def test_a_database_is_one_hubs(site):
    home.claim(site.store, "a" * 64)
    home.claim(site.store, "a" * 64)
    with pytest.raises(ConfigError, match="belongs to another hub"):
        home.claim(site.store, "b" * 64)


def test_a_hub_whose_parts_cannot_share_refuses_to_start_as_one_of_them():
    with pytest.raises(HubError, match="SQLite has one writer"):
        serve(HubConfig(), parts=parse("engine"))
    with pytest.raises(HubError, match=r"set \[broker\] url"):
        serve(HubConfig(database="postgresql://db/muster"), parts=parse("api"))


@pytest.mark.system
def test_the_engine_that_acts_is_killed_and_its_stand_by_finishes_the_rollout(
    tmp_path: Path, postgres_server: Postgres
):
    with closing(Plant(tmp_path, postgres_server.fresh())) as plant:
        plant.start()
        started = plant.served.ask(
            "/rollouts",
            {"model": "digits", "version": "1", "slot": SLOT, "canary": 1, "in_flight_max": 1,
             "min_soak_seconds": 1},
        )  # fmt: skip
        until(plant.agents.running, lambda running: "1" in running.values())
        (acting,) = [number for number in (0, 1) if plant.leases(number)["engine"]]
        before = plant.leases(acting)["engine"]
        assert plant.leases(1 - acting)["engine"] == 0
        plant.send_rows()
        plant.backs[acting].kill()
        after = until(lambda: plant.leases(1 - acting), lambda leases: all(leases.values()))
        assert after["engine"] == before + 1
        ended = until(
            lambda: plant.served.ask(f"/rollouts/{started['id']}"),
            lambda seen: seen["state"] != "running",
        )
        assert ended["state"] == "completed", ended
        assert plant.agents.running() == dict.fromkeys(DEVICES, "1")
        plant.send_rows()
        assert eventually(lambda: plant.rows() >= len(DEVICES) * ROWS)
        assert plant.rows() == len(DEVICES) * ROWS, "every row once"
        for agent in plant.agents.agents.values():
            assert agent.swapped == ["1"]
            assert agent.heard_of == sorted(agent.heard_of), "no directive number goes back"
