"""What the demo shows: a live board on a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

REFRESH_PER_SECOND = 4
STEPS_SHOWN = 14

TableRows = Callable[[], list[tuple[str, ...]]]
HEADINGS = ("DEVICE", "RUNS", "LINK", "CAMERA", "INFERENCES", "FAILED", "ACCURACY")


class Screen:
    """Steps above, devices below. ``rows`` is asked for the devices at every refresh."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[Text] = []
        self._now = Text()
        self._began = time.monotonic()
        self.rows: TableRows = list
        self._live = (
            Live(
                get_renderable=self._render, console=console, refresh_per_second=REFRESH_PER_SECOND
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._now = Text()
            self._live.stop()

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def step(self, text: str) -> None:
        """What is being done now."""
        self._now = self._stamped("…", text, "cyan")
        if self._live is None:
            self._console.print(self._now)

    def kept(self, text: str) -> None:
        """A promise kept, with what was seen."""
        line = self._stamped("✓", text, "green")
        self._steps.append(line)
        self._now = Text()
        if self._live is None:
            self._console.print(line)

    def say(self, *parts: RenderableType) -> None:
        """Print below everything, after the live board has ended."""
        for part in parts:
            self._console.print(part)

    def line(self, text: str) -> None:
        """Print text to be copied: in one piece, however long it is."""
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def _stamped(self, mark: str, text: str, style: str) -> Text:
        return Text.assemble((f"{self.seconds:6.1f} s  ", "dim"), (f"{mark} ", style), text)

    def _render(self) -> RenderableType:
        board = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in HEADINGS:
            board.add_column(heading, justify="right" if heading in HEADINGS[4:] else "left")
        for row in self.rows():
            board.add_row(*row)
        return Group(*self._steps[-STEPS_SHOWN:], self._now, board)
