"""A log for programs: each event is one line of JSON, whatever its text holds."""

import json
import logging
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """``at`` (UTC), ``level``, ``logger``, ``message``, and ``error`` with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback's lines are in it."""
        said = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def configure(level: int, text_format: str, *, as_json: bool) -> None:
    """Begin to log to standard error, for people in ``text_format``, or for programs."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else logging.Formatter(text_format))
    logging.basicConfig(level=level, handlers=[handler])
