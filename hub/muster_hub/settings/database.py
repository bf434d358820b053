"""How the address of a database is written."""

from pathlib import Path


def sqlite_url(path: Path) -> str:
    """The URL of the SQLite database in the file ``path``."""
    return f"sqlite:///{path.resolve()}"
