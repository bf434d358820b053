"""Every page there is, by the console's routes: as many statements whatever the size of the fleet,
small on the wire, links that hold under a prefix, and nothing that somebody wrote taken for markup.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from support.console_kit import counted, signed_in
from support.console_pages import (
    DEVICE,
    HOSTILE,
    NO_PAGES,
    QUERIES,
    Filled,
    address,
    examples,
    routes,
)
from support.hub_kit import Kit, open_kit

IN_AN_ADDRESS = "<script>alert(1)<script>'\"&".ljust(64, "x")
"""A hostile name that a page can be asked by: addresses that turn text around are refused."""
STATEMENTS_MAX = 20
BYTES_FIRST_MAX, BYTES_AFTER_MAX = 150_000, 20_000
FILES = ("/static/console.css", "/static/console.js", "/static/favicon.svg")
NOT_THERE = "/none/at/all"


@dataclass(frozen=True)
class Hub:
    """A hub that is filled, and somebody who looks at it."""

    kit: Kit
    client: httpx.Client


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        outward = ("rel", "external noreferrer") in attrs
        for name, value in attrs:
            if outward and name == "href":
                assert (value or "").startswith(("https://", "http://"))
            elif name in ("href", "src", "action"):
                self.found.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
        if tag == "style":
            self.inline.append(tag)


@contextmanager
def filled(folder: Path, count: int, **texts: Any) -> Iterator[Hub]:
    kit = open_kit(folder)
    try:
        Filled(kit, folder / "bundle", count, **texts)
        yield Hub(kit, signed_in(kit))
    finally:
        kit.close()


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Hub]]:
    """One with ten of everything, and one with two hundred."""
    folder = tmp_path_factory.mktemp
    with filled(folder("few"), 10) as few, filled(folder("many"), 200) as many:
        yield [few, many]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    names = (IN_AN_ADDRESS, HOSTILE)
    with filled(tmp_path_factory.mktemp("hostile"), 10, names=names, text=HOSTILE) as hub:
        yield hub


def test_what_is_said_of_pages_is_of_pages_that_are_there() -> None:
    assert {*NO_PAGES, *QUERIES} <= set(routes())


@pytest.mark.parametrize("example", examples())
def test_a_page_takes_as_many_statements_for_two_hundred_of_everything_as_for_ten(
    hubs: list[Hub], example: str
) -> None:
    taken = []
    for hub in hubs:
        path = address(hub.kit, example)
        with counted(hub.kit.hub.store) as seen:
            assert hub.client.get(path).status_code == 200
        taken.append(seen.texts)
    few, many = map(len, taken)
    assert few == many <= STATEMENTS_MAX, taken[1]


def wire_bytes(hub: Hub, path: str) -> int:
    with hub.client.stream("GET", path) as answer:
        return len(b"".join(answer.iter_raw()))


@pytest.mark.parametrize("example", examples())
def test_a_page_is_small_over_the_wire(hubs: list[Hub], example: str) -> None:
    assert wire_bytes(hubs[1], address(hubs[1].kit, example)) <= BYTES_AFTER_MAX


def test_a_device_shows_the_energy_of_an_inference(hubs: list[Hub]) -> None:
    page = hubs[0].client.get(f"/devices/{DEVICE}").text
    assert "An inference took 12.5 mJ (estimated)" in page
    assert "2.5 J" in page


def test_what_a_first_visit_needs_is_small(hubs: list[Hub]) -> None:
    files = sum(wire_bytes(hubs[1], path) for path in FILES)
    assert files + BYTES_AFTER_MAX <= BYTES_FIRST_MAX


@pytest.mark.parametrize("example", [*examples(), NOT_THERE])
def test_links_are_relative_so_that_they_hold_under_a_proxy_s_prefix(
    hubs: list[Hub], example: str
) -> None:
    path = address(hubs[0].kit, example)
    links = Links(hubs[0].client.get(path).text)
    outside = [
        link
        for link in links.found
        if not urljoin(f"https://x/prefix{path}", link).startswith(
            ("https://x/prefix/", "https://x/prefix?")
        )
    ]
    assert outside == []
    assert links.found
    assert links.inline == []


@pytest.mark.parametrize("example", examples())
def test_what_somebody_wrote_is_text_on_every_page(hostile: Hub, example: str) -> None:
    answer = hostile.client.get(address(hostile.kit, example, IN_AN_ADDRESS))
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "\u202e" not in answer.text


def test_what_somebody_wrote_is_there(hostile: Hub) -> None:
    shown = "&lt;script&gt;alert(1)&lt;/script&gt;&#39;&#34;&amp;\ufffdgpj\ufffd"
    for path in ("/", "/rollouts/1", "/inbox", "/audit"):
        assert shown in hostile.client.get(path).text, path
