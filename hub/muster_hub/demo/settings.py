"""Setting single keys of hub.toml and agent.toml, as an operator would with an editor."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


def change(path: Path, settings: Mapping[str, Any]) -> None:
    """Set keys, named ``section.key`` or ``key``, and keep all others. Comments are lost."""
    table = tomllib.loads(path.read_text())
    for dotted, value in settings.items():
        section, _, key = dotted.rpartition(".")
        (table.setdefault(section, {}) if section else table)[key] = value
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    blocks = [_lines(plain)]
    for section, values in table.items():
        if isinstance(values, dict):
            blocks.append(f"[{section}]\n{_lines(values)}")
    path.write_text("\n".join(block for block in blocks if block))


def _lines(values: Mapping[str, Any]) -> str:
    # JSON's texts, numbers, booleans and lists are TOML's, too.
    return "".join(
        f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in values.items()
    )
