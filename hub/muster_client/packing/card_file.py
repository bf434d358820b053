"""The file in which a person says of a model what no program knows."""

import tomllib
from pathlib import Path

import msgspec

from muster_client.failures import WrongUsage
from muster_protocol.wire.card import CardText


def read_card(path: Path) -> CardText:
    """A card from TOML. Raises WrongUsage that names the key at fault."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), CardText)
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{path}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        known = ", ".join(CardText.__struct_fields__)
        raise WrongUsage(f"{path}: {str(error).replace('$.', '')}; keys are {known}") from None
