"""Page–Hinkley against numbers that river 0.26.1 gave.

They were made by ``river.drift.PageHinkley(threshold=20, mode="up")``, its other settings as river
has them, on the same labels, noting where it said drift; it begins anew after each.
"""

from muster_protocol.signals.concept import PageHinkley

RIVER = [1010, 1738, 2692, 3313]


def labels() -> list[int]:
    """A linear congruential generator: the same mistakes everywhere, more and more of them."""
    state, found = 12345, []
    for count in range(4000):
        state = (1103515245 * state + 12345) % 2**31
        found.append(int(state / 2**31 < 0.05 + 0.1 * (count // 800)))
    return found


def test_drift_is_found_where_river_finds_it() -> None:
    test, found = PageHinkley(threshold=20.0), []
    for place, mistake in enumerate(labels()):
        test = test.step(float(mistake))
        if test.drifting:
            found.append(place)
            test = test.restarted()
    assert found == RIVER
