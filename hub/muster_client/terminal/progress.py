"""How far an upload is, as bars."""

from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from muster_client.terminal import output


class UploadBars:
    """A bar for each file that is sent, then one for the check; nothing where nobody looks."""

    def __init__(self, *, quiet: bool) -> None:
        screen = output.console()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
            TransferSpeedColumn(), console=screen, transient=True,
            disable=quiet or not screen.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bars away, before anything else is shown."""
        self._bar.stop()

    def sent(self, file: str, bytes_sent: int, bytes_total: int) -> None:
        """So much of a file has gone."""
        if file not in self._tasks:
            self._tasks[file] = self._bar.add_task(file, total=bytes_total)
        self._bar.update(self._tasks[file], completed=bytes_sent)

    def checking(self, status: str) -> None:
        """All has gone; the hub's check stands so."""
        if "" not in self._tasks:
            self._tasks[""] = self._bar.add_task("", total=None)
        self._bar.update(self._tasks[""], description=f"the hub: {status}")
