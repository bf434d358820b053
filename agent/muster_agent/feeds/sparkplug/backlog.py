"""Answers that could not be sent, in a bounded file of SQLite, until they can."""

import sqlite3
from pathlib import Path

import msgspec

from muster_agent.feeds.answers import FeedAnswer


class Backlog:
    """The newest ``answers_max``, oldest first; older ones are dropped and counted."""

    def __init__(self, path: Path, answers_max: int) -> None:
        """Raises OSError or sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answer (id INTEGER PRIMARY KEY, body BLOB NOT NULL)"
        )
        self._answers_max = answers_max
        self.dropped = 0
        """Answers that there was no room for."""

    def put(self, answer: FeedAnswer) -> None:
        """Keep an answer; raises sqlite3.Error."""
        body = msgspec.json.encode(answer)
        made = self._database.execute("INSERT INTO answer (body) VALUES (?)", (body,))
        newest = made.lastrowid or 0
        gone = self._database.execute(
            "DELETE FROM answer WHERE id <= ?", (newest - self._answers_max,)
        )
        self.dropped += gone.rowcount

    def oldest(self, count: int) -> list[tuple[int, FeedAnswer]]:
        """Up to ``count`` answers by their ids; raises sqlite3.Error."""
        rows = self._database.execute("SELECT id, body FROM answer ORDER BY id LIMIT ?", (count,))
        return [(key, msgspec.json.decode(body, type=FeedAnswer)) for key, body in rows]

    def remove(self, up_to: int) -> None:
        """Forget those up to this id: they are sent. Raises sqlite3.Error."""
        self._database.execute("DELETE FROM answer WHERE id <= ?", (up_to,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()
