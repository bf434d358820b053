"""Metrics in Prometheus' text format, version 0.0.4. Pure, and small enough for a device."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True)
class Family:
    """A metric and its samples: labels and a value each."""

    name: str
    kind: str
    """``gauge`` or ``counter``."""
    says: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def text(families: Iterable[Family]) -> bytes:
    """What a scrape answers. A metric without samples is left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.says}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += [
            f"{family.name}{_labels(labels)} {value:.17g}" for labels, value in family.samples
        ]
    return "".join(f"{line}\n" for line in lines).encode()


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""
