"""Devices and an engine behind a hub's console: what people start in it happens."""

from collections.abc import Callable

from support.hub_kit import Kit
from support.windows_fleet import Fleet


class ConsoleFleet(Fleet):
    """A fleet on a hub's own database; the hub's clock goes with the fleet's."""

    def __init__(self, kit: Kit, devices: int) -> None:
        self._kit = kit
        super().__init__(kit.hub.config.data, None, devices)
        self.follow()

    def follow(self) -> None:
        self._kit.clock.now = self.now

    def tick(self, seconds: float = 1.0) -> None:
        super().tick(seconds)
        self.follow()

    def settle(self, version: str) -> list[str]:
        """The engine asks, and every device that is asked for ``version`` commits it."""
        self.tick()
        asked = self.all_report(version)
        self.tick()
        return asked

    def pass_windows(self, count: int, harm: Callable[[str], float] = lambda _: 1.0) -> None:
        for _ in range(count):
            self.windows(harm)
            self.tick()
