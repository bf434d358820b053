"""The agent's word that it is healthy, which ends its trial; and what the hub hears of updates."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from msgspec.structs import replace

from muster_agent.selfupdate import record
from muster_agent.selfupdate.record import Record, Side

log = logging.getLogger(__name__)
HEALTHY_SECONDS = 10.0
"""For as long without a break: a worker that dies at once has been serving for a moment, too."""
RETRY_SECONDS = 10.0
"""Pause after the record could not be written."""


class TrialWatch:
    """Of the agent that runs. Times are monotonic seconds."""

    def __init__(self, directory: Path, side: str, report: Callable[[str], None]) -> None:
        """``side`` is what the launcher said; another word, or none: nothing to watch.

        ``report`` keeps a line for the hub.
        """
        self._directory = directory
        self._side: Side | None = next((name for name in get_args(Side) if name == side), None)
        self._report = report
        self._since: float | None = None
        self._look_at = float("-inf")
        self._record = self._load()
        self._report_news()

    def look(self, now: float, *, connected: bool, serving: bool) -> None:
        """``serving``: every slot that has a committed model answers."""
        trial = self._record.trial
        if self._side is None or trial is None or trial.side != self._side or now < self._look_at:
            return
        if not serving or (trial.online and not connected):
            self._since = None
            return
        if self._since is None:
            self._since = now
        if now - self._since >= HEALTHY_SECONDS:
            self._pass(self._side, now)

    def _pass(self, side: Side, now: float) -> None:
        try:
            self._record = record.change(self._directory, lambda found: record.passed(found, side))
        except OSError as error:
            log.warning("this agent is healthy, which can't be noted: %s", error)
            self._look_at = now + RETRY_SECONDS
            return
        self._report_news()

    def _load(self) -> Record:
        try:
            return record.load(self._directory) or Record()
        except OSError:
            return Record()

    def _report_news(self) -> None:
        """Once in the outbox it can't get lost; said twice after a power cut in between."""
        if not self._record.news:
            return
        log.info("%s", self._record.news)
        try:
            self._report(self._record.news)
            self._record = record.change(self._directory, lambda found: replace(found, news=""))
        except OSError as error:
            log.warning("the hub can't be informed of it yet: %s", error)
