"""A commented `muster.toml`: every choice with its sentence, none of them made yet. Pure."""

import json
from pathlib import Path
from typing import Any

from muster_client.packing.options import fields, plain_name


def text(model: Path) -> str:
    """The file for a model: all keys there are, commented out."""
    lines = [
        f"# How `muster model pack {model.name}` makes a bundle. What stays commented out is",
        "# inferred from the model and the data; the command says what it found.",
        "",
    ]
    for name, field in fields().items():
        value = plain_name(model.stem) if name == "name" else field.example
        lines += [f"# {field.meaning}", f"# {name.replace('_', '-')} = {_toml(value)}", ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)  # texts, numbers, booleans and lists are the same in TOML
