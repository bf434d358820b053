"""Distributions as bars in the terminal: the baseline beside what a device sees now. Pure."""

from collections.abc import Sequence

from rich.text import Text

BLOCKS = " ▁▂▃▄▅▆▇█"
UNITS = len(BLOCKS) - 1


def shares(counts: Sequence[float]) -> list[float]:
    """Counts as fractions of their sum; all zero when there is nothing."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def bars(values: Sequence[float], highest: float) -> str:
    """One character a value; ``highest`` fills it. What is there at all is never blank."""
    if highest <= 0:
        return BLOCKS[0] * len(values)
    return "".join(
        BLOCKS[max(min(round(value / highest * UNITS), UNITS), 1)] if value > 0 else BLOCKS[0]
        for value in values
    )


def compare(expected: Sequence[float], counted: Sequence[float], *, alarming: bool) -> Text:
    """Two lines on one scale: the expected shares, then the counted ones.

    Raises ValueError when the two have different numbers of bins.
    """
    if len(expected) != len(counted):
        raise ValueError(f"{len(expected)} bins expected, {len(counted)} counted")
    baseline, now = shares(expected), shares(counted)
    highest = max([*baseline, *now], default=0.0)
    text = Text("baseline ", style="dim")
    text.append(f"▕{bars(baseline, highest)}▏\n", style="blue")
    text.append("now      ", style="dim")
    text.append(f"▕{bars(now, highest)}▏", style="red" if alarming else "green")
    return text


def meter(done: float, total: float, width: int = 20) -> str:
    """A horizontal bar for a share of a whole."""
    filled = round(width * min(max(done / total if total else 0.0, 0.0), 1.0))
    return "█" * filled + "░" * (width - filled)
