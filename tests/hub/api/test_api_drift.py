"""`GET /drift`: page by page, and as many statements for many devices as for few."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from sqlalchemy import event

from muster_hub.storage import models
from muster_protocol.signals import baseline, binning, features, summary_wire
from muster_protocol.signals.summary import Summary, Tally
from support.console_kit import signed_in
from support.hub_kit import API, Kit, open_kit
from support.hub_store import stamp
from support.models import write_bundle

SPEC = features.elements("x", 4)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    yield made
    made.close()


def rows(seed: int, n: int = 400) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)}


class Seen:
    """A bundle in the hub's store, and devices that send windows of it."""

    def __init__(self, kit: Kit, folder: Path) -> None:
        self.kit = kit
        self.baseline = baseline.fit(rows(1), SPEC)
        _, self.manifest = write_bundle(folder, trained=baseline.encode(self.baseline))
        for file in folder.iterdir():
            kit.hub.blobs.put(file.read_bytes())

    def devices(self, *names: str, windows: int = 2, model: str = "dense") -> None:
        with self.kit.hub.store.write() as session:
            for name in names:
                if session.get(models.Device, name) is None:
                    session.add(models.Device(id=name, created=1.0, labels={"site": name[0]}))
                    session.flush()
                for sequence in range(windows):
                    session.add(self._window(name, sequence, model))

    def _window(self, device: str, sequence: int, model: str) -> models.SummaryWindow:
        counted = Summary(
            model=model, version="1", manifest=self.manifest, opened=stamp(0.0),
            closed=stamp(300.0), counts=Tally(inferences=400),
            features=binning.count(self.baseline, rows(sequence)),
        )  # fmt: skip
        return models.SummaryWindow(
            device=device, epoch=model, sequence=sequence, model=model, version="1",
            manifest=self.manifest, start=300.0 * sequence, seconds=300.0, n=400,
            received=300.0 * sequence, payload=summary_wire.encode(counted),
        )  # fmt: skip


@pytest.fixture
def seen(kit: Kit, tmp_path: Path) -> Seen:
    return Seen(kit, tmp_path / "bundle")


def asked(kit: Kit, headers: dict[str, str], **parameters: object) -> dict:
    answer = kit.http.get(f"{API}/drift", params=parameters, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextmanager
def statements(kit: Kit) -> Iterator[list[str]]:
    """The statements that the hub's database is given meanwhile."""
    given: list[str] = []

    def count(_connection, _cursor, statement, *_rest) -> None:
        given.append(statement)

    engine = kit.hub.store.engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        yield given
    finally:
        event.remove(engine, "before_cursor_execute", count)


def test_drift_of_many_devices_takes_as_many_statements_as_of_few(kit, seen):
    headers = kit.as_("viewer")
    seen.devices("a1", "a2", "a3")
    with statements(kit) as few:
        assert len(asked(kit, headers)["items"]) == 3
    seen.devices(*(f"b{number:03}" for number in range(60)))
    with statements(kit) as many:
        assert len(asked(kit, headers)["items"]) == 63
    assert len(many) == len(few)


def test_drift_comes_page_by_page_and_every_device_once(kit, seen):
    headers = kit.as_("viewer")
    names = [f"a{number}" for number in range(7)]
    seen.devices(*names)
    found, cursor = [], None
    for _ in names:
        page = asked(kit, headers, limit=3, **({"cursor": cursor} if cursor else {}))
        found.append([item["device"] for item in page["items"]])
        cursor = page["next"]
        if cursor is None:
            break
    assert found == [["a0", "a1", "a2"], ["a3", "a4", "a5"], ["a6"]]


def test_a_page_counts_devices_and_has_each_of_their_models(kit, seen):
    headers = kit.as_("viewer")
    seen.devices("a1", "a2")
    seen.devices("a1", model="press")
    page = asked(kit, headers, limit=1)
    assert [(item["device"], item["model"]) for item in page["items"]] == [
        ("a1", "dense"), ("a1", "press"),
    ]  # fmt: skip
    assert page["next"] == "a1"
    assert [item["device"] for item in asked(kit, headers, model="press")["items"]] == ["a1"]


def test_drift_shows_the_latest_windows_only(kit, seen):
    headers = kit.as_("viewer")
    seen.devices("a1", windows=20)
    (item,) = asked(kit, headers, selector="site=a")["items"]
    assert (item["windows"], item["n"]) == (12, 12 * 400)
    assert [sum(feature["now"]) for feature in item["features"]] == [12 * 400] * 4
    of_one = kit.http.get(f"{API}/devices/a1/drift", headers=headers).json()["items"][0]
    assert all(feature.pop("trend") for feature in of_one["features"])
    assert all(feature.pop("trend") == [] for feature in item["features"])
    assert of_one == item


def test_a_device_without_windows_has_no_drift_and_ends_no_page_early(kit, seen):
    headers = kit.as_("viewer")
    seen.devices("a1", windows=0)
    seen.devices("a2")
    first = asked(kit, headers, limit=1)
    assert (first["items"], first["next"]) == ([], "a1")
    last = asked(kit, headers, limit=1, cursor=first["next"])
    assert ([item["device"] for item in last["items"]], last["next"]) == (["a2"], None)


def test_a_feature_s_windows_are_a_page_of_the_console_with_a_way_to_call_them_normal(
    seen: Seen,
) -> None:
    seen.devices("cam-1", "cam-2", windows=6)
    client = signed_in(seen.kit)
    (view,) = client.get(f"{API}/devices/cam-1/drift", headers=seen.kit.as_("viewer")).json()[
        "items"
    ]
    name = view["features"][0]["name"]
    page = client.get(f"/drift/dense/cam-1/{quote(name, safe='')}")
    assert page.status_code == 200, page.text
    assert page.text.count("<svg") == 3, "the brand, the windows, the shares"
    assert "in training" in page.text
    assert "It drifts on" in page.text
    assert "/rebaseline" in page.text
    assert client.get("/drift/dense/cam-1/none").status_code == 404
