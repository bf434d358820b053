"""Installations that fail: a breaker for the first few, an e-value for the rest. Pure."""

import math
from dataclasses import dataclass

from scipy import special

FIRST = 5
FIRST_FAILURES_MAX = 2
SITE_CORRELATION = 0.2
"""How alike installs of one site are taken to be; one bad switch fails a whole site."""
PRIOR_FAILURES, PRIOR_SUCCESSES = 1.0, 4.0
"""What a harmful release is expected to do: fail on about one device in five."""


@dataclass(frozen=True)
class Installs:
    """Outcomes in the order they ended (True: failed), and how many came from each site."""

    failed: tuple[bool, ...]
    per_site: tuple[int, ...] = ()


def judge_installs(installs: Installs, rate: float, false_stop: float) -> str | None:
    """Why to stop, in words, or None. ``rate`` is the share of failures held to be normal."""
    failures, done = sum(installs.failed), len(installs.failed)
    first = sum(installs.failed[:FIRST])
    if first > FIRST_FAILURES_MAX:
        return f"Stopped: {first} of the first {min(done, FIRST)} installs failed."
    if log_evidence(failures, done, rate, design_effect(installs.per_site)) < -math.log(false_stop):
        return None
    return (
        f"Stopped: {failures} of {done} installs failed, {rate:.0%} is normal; "
        f"chance of a false stop about {false_stop:.2g}."
    )


def design_effect(per_site: tuple[int, ...]) -> float:
    """By how much installs that share sites say less than as many independent ones; at least 1."""
    total = sum(per_site)
    if not total:
        return 1.0
    mean_cluster = sum(count * count for count in per_site) / total
    return 1 + (mean_cluster - 1) * SITE_CORRELATION


def log_evidence(failures: float, done: float, rate: float, effect: float) -> float:
    """Log of a beta-mixture e-value against a failure rate of at most ``rate``.

    The mixture is over rates above ``rate`` only, so the evidence can be looked at after every
    install. Counts are divided by the design effect.
    """
    f, s = failures / effect, (done - failures) / effect
    a, b = PRIOR_FAILURES, PRIOR_SUCCESSES
    tail = float(special.betaincc(f + a, s + b, rate))
    if tail <= 0:
        return -math.inf
    mixed = float(special.betaln(f + a, s + b)) + math.log(tail)
    prior = float(special.betaln(a, b)) + math.log(float(special.betaincc(a, b, rate)))
    return mixed - prior - f * math.log(rate) - s * math.log1p(-rate)
