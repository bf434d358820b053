"""Small fleets for tests of rollout gates."""

import numpy as np
from hypothesis import strategies as st

from muster_hub.rollouts.gates.judge import Evidence
from muster_hub.rollouts.gates.look import Rates
from muster_hub.rollouts.gates.statistics import Arm


def arm(rng, devices, *, hours=24, factor=1.0, rate=0.02, per_hour=200, spread=0.4, strata=4):
    """Devices whose rates differ, with a day of past; ``factor`` multiplies their rates since."""
    rates = rate * np.exp(rng.normal(0, spread, devices))
    exposure = np.full(devices, float(per_hour * hours))
    past = np.full(devices, float(per_hour * 24))
    return Arm(
        rng.poisson(np.minimum(rates * factor, 1) * exposure).astype(float),
        exposure,
        rng.poisson(rates * past).astype(float),
        past,
        np.arange(devices) % strata,
    )


def evidence(data, *, look=96, canaries=20, silent=0, soaked=True, device_hours=480.0, **more):
    return Evidence(
        look=look, data=data, canaries=canaries, silent=silent, soaked=soaked,
        device_hours=device_hours, **more,
    )  # fmt: skip


def rates(seed=1, *, canaries=20, controls=100, factor=1.0, **options):
    rng = np.random.default_rng(seed)
    return Rates(arm(rng, canaries, factor=factor, **options), arm(rng, controls, **options))


@st.composite
def any_arm(draw, low=1, high=12):
    """Any counts at all: silent devices, no past, everything failing."""
    devices = draw(st.integers(low, high))
    counts = st.integers(0, 1000)

    def column(values):
        return np.array(draw(st.lists(values, min_size=devices, max_size=devices)), float)

    exposure, past = column(counts), column(counts)
    share = st.floats(0, 1)
    return Arm(
        np.floor(exposure * column(share)), exposure, np.floor(past * column(share)), past,
        column(st.integers(0, 3)).astype(np.intp),
    )  # fmt: skip
