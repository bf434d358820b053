"""Every page there is, by the console's routes, in a real browser: readable by everybody, light and
dark, narrow and wide, full of what somebody hostile wrote; and nothing in it breaks its policy."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from browser.conftest import Person, person
from support.console_pages import DEVICE, HOSTILE, Filled, address, examples
from support.hub_kit import Kit, open_kit

COUNT = 24
NOT_THERE = "/none"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    folder = tmp_path_factory.mktemp("pages")
    made = open_kit(folder)
    Filled(made, folder / "bundle", COUNT, names=(DEVICE, HOSTILE), text=HOSTILE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def reader(browser: Browser, kit: Kit) -> Iterator[Person]:
    """Looks at one page after the other."""
    with person(browser, kit) as somebody:
        somebody.arrive()
        yield somebody


@pytest.mark.parametrize("example", [*examples(), NOT_THERE])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    reader: Person, kit: Kit, example: str
) -> None:
    assert reader.examine(address(kit, example)) == []
    assert reader.complaints == []
