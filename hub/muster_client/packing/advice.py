"""What a packer noticed: each with what to do about it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Advice:
    """Something that works otherwise than a person may expect."""

    code: str
    """Stable, for scripts: ``zipmap``, ``no_baseline``…"""
    text: str
    """What it is and what to do, in a sentence or two."""

    def __str__(self) -> str:
        return self.text


@dataclass
class Notes:
    """Collects advice in the order in which it comes up, each kind and text once."""

    found: list[Advice] = field(default_factory=list)

    def add(self, code: str, text: str) -> None:
        """Note something."""
        advice = Advice(code, " ".join(text.split()))
        if advice not in self.found:
            self.found.append(advice)
