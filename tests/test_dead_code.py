"""What no line of the packages uses is dead: tests alone keep nothing alive."""

from functools import cache
from pathlib import Path

from vulture import Vulture

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("protocol/muster_protocol", "agent/muster_agent", "hub/muster_hub", "hub/muster_client")
REGISTERED = (
    "@app.*", "@router.*", "@*.command", "@*.callback", "@*.exception_handler",
    "@model_validator", "@field_validator",
)  # fmt: skip
"""Decorators by which something is called that nobody names."""
KINDS = {"function", "method", "class", "property", "import", "unreachable_code"}
"""Fields and attributes are left out: they cross the wire, or are settings of others' objects."""

USED_ELSEWHERE = {
    "demo": "an entry point of the command muster",
    "quickstart": "an entry point of the command muster",
    "__getattr__": "by Python, when a module is asked for a name",
    "get_next": "by ONNX Runtime, of its reader of calibration data",
    "do_GET": "by http.server, of its handler",
    "log_message": "by http.server, of its handler",
    "downgrade": "by Alembic",
    "datachange_notification": "by asyncua, of its subscription's handler",
    "download_bytes": "by TUF's client, of its fetcher",
    "redirect_request": "by urllib, of its handler",
    "capture_signals": "by uvicorn, of its server",
    "_create_socket_connection": "by Paho, of its client",
    "_create_unix_socket_connection": "by Paho, of its client",
    "open_engine": "by programs that run a bundle in their own process",
    "pump": "by whoever drives a broker in memory",
}
"""Names that are used from outside of the packages, and by whom."""


@cache
def unused(*paths: Path) -> dict[str, str]:
    """Names that nothing in ``paths`` uses, each with its place."""
    finder = Vulture(ignore_decorators=list(REGISTERED))
    finder.scavenge([str(path) for path in paths])
    return {
        item.name: f"{item.filename}:{item.first_lineno}: {item.typ} {item.name}"
        for item in finder.get_unused_code(min_confidence=60)
        if item.typ in KINDS
    }


def test_nothing_in_the_packages_is_dead():
    found = unused(*(ROOT / package for package in PACKAGES))
    assert [place for name, place in found.items() if name not in USED_ELSEWHERE] == []


def test_each_exception_is_still_one():
    found = unused(*(ROOT / package for package in PACKAGES))
    assert set(USED_ELSEWHERE) - set(found) == set()


def test_a_function_that_nobody_calls_is_found(tmp_path):
    (tmp_path / "one.py").write_text("def used():\n    pass\n\n\ndef dead():\n    used()\n")
    assert set(unused(tmp_path)) == {"dead"}
