"""What is durable of sampling: policies in force, ended ones, and rows counted by version.

On the agent's own connection, so that a row, its count and its receipt commit together.
"""

import sqlite3
from dataclasses import dataclass

ENDED_KEPT_MAX = 64
"""Names of policies that are over. One of them is never taken up again."""
VERSIONS_KEPT_MAX = 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sample_policy (
    slot TEXT PRIMARY KEY, policy TEXT NOT NULL, asked BLOB NOT NULL, model TEXT NOT NULL,
    version TEXT NOT NULL, manifest TEXT NOT NULL, captured INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS sample_ended (
    id INTEGER PRIMARY KEY AUTOINCREMENT, policy TEXT NOT NULL UNIQUE, why TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sample_count (
    manifest TEXT PRIMARY KEY, day INTEGER NOT NULL, today INTEGER NOT NULL, total INTEGER NOT NULL)
"""


@dataclass(frozen=True)
class InForce:
    """A policy that has begun in a slot, as it was signed, and how many rows were captured."""

    slot: str
    policy: str
    asked: bytes
    model: str
    version: str
    manifest: str
    captured: int = 0


class SampleTable:
    """Plain statements that join the caller's transaction. Each may raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)

    def in_force(self) -> list[InForce]:
        """The policies of all slots."""
        rows = self._connection.execute(
            "SELECT slot, policy, asked, model, version, manifest, captured FROM sample_policy"
        )
        return [InForce(*row) for row in rows]

    def begin(self, began: InForce) -> None:
        """Put a policy in force."""
        self._connection.execute(
            "INSERT OR REPLACE INTO sample_policy "
            "(slot, policy, asked, model, version, manifest) VALUES (?, ?, ?, ?, ?, ?)",
            (began.slot, began.policy, began.asked, began.model, began.version, began.manifest),
        )

    def end(self, slot: str) -> None:
        """Whatever is in force in a slot is over."""
        self._connection.execute("DELETE FROM sample_policy WHERE slot = ?", (slot,))

    def never_again(self, slot: str, policy: str, why: str) -> None:
        """A policy is over in a slot for good."""
        self._connection.execute(
            "INSERT OR REPLACE INTO sample_ended (policy, why) VALUES (?, ?)",
            (f"{slot}/{policy}", why),
        )
        self._connection.execute(
            "DELETE FROM sample_ended WHERE id NOT IN "
            "(SELECT id FROM sample_ended ORDER BY id DESC LIMIT ?)",
            (ENDED_KEPT_MAX,),
        )

    def why_ended(self, slot: str, policy: str) -> str:
        """Empty for one that isn't over for good."""
        row = self._connection.execute(
            "SELECT why FROM sample_ended WHERE policy = ?", (f"{slot}/{policy}",)
        ).fetchone()
        return row[0] if row else ""

    def captured(self, slot: str, manifest: str, day: int, rows: int) -> None:
        """Count rows of a version on a day. A day before one that was counted is that day still:
        setting the clock back gains nothing.
        """
        self._connection.execute(
            "UPDATE sample_policy SET captured = captured + ? WHERE slot = ?", (rows, slot)
        )
        self._connection.execute(
            "INSERT INTO sample_count (manifest, day, today, total) VALUES (?1, ?2, ?3, ?3) "
            "ON CONFLICT (manifest) DO UPDATE SET total = total + ?3, "
            "today = CASE WHEN ?2 > day THEN ?3 ELSE today + ?3 END, day = MAX(day, ?2)",
            (manifest, day, rows),
        )
        self._connection.execute(
            "DELETE FROM sample_count WHERE manifest NOT IN "
            "(SELECT manifest FROM sample_count ORDER BY day DESC, total DESC LIMIT ?)",
            (VERSIONS_KEPT_MAX,),
        )

    def counted(self, manifest: str, day: int) -> tuple[int, int]:
        """Rows of a version captured on that day, and ever."""
        row = self._connection.execute(
            "SELECT day, today, total FROM sample_count WHERE manifest = ?", (manifest,)
        ).fetchone()
        if row is None:
            return 0, 0
        return (0 if day > row[0] else int(row[1])), int(row[2])
