"""The roles a person or a token may have."""

from typing import Literal

Role = Literal["viewer", "operator", "releaser", "admin"]
