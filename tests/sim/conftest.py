"""Worlds are lived in silence; what other tests hear of the product stays as it is."""

import logging
from collections.abc import Iterator

import pytest

from sim.run import QUIETENED, quiet


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in QUIETENED}
    quiet()
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
