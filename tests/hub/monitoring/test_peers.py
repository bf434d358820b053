"""A device's drift beside its peers': sensor, process or model."""

import hypothesis.strategies as st
from hypothesis import given

from muster_hub.monitoring import peers
from muster_hub.monitoring.peers import Company, Moved, Peers

BRIGHT = {"brightness": "down"}


def company(device: Moved, feature: str, fleet: list[Moved]) -> Company:
    """The device counts among its fleet, whether it is listed or not."""
    others = [peer for peer in fleet if peer.device != device.device]
    return Peers([*others, device]).company(device, feature)


def cause(device: Moved, fleet: list[Moved]) -> str:
    return company(device, "brightness", fleet).cause


def site(name: str, count: int, moved: int = 0, features: dict[str, str] = BRIGHT) -> list[Moved]:
    return [
        Moved(f"{name}-{number}", name, features if number < moved else {})
        for number in range(count)
    ]


def test_alone_it_is_the_sensor():
    fleet = site("berlin", 4, moved=1) + site("rome", 4)
    assert cause(fleet[0], fleet) == "sensor"
    assert cause(fleet[0], site("berlin", 4, moved=1)) == "sensor"


def test_with_its_site_it_is_the_process():
    fleet = site("berlin", 4, moved=3) + site("rome", 4, moved=1)
    assert cause(fleet[0], fleet) == "process"


def test_with_the_fleet_it_is_the_model():
    fleet = site("berlin", 4, moved=4) + site("rome", 4, moved=3)
    assert cause(fleet[0], fleet) == "model"


def test_a_peer_that_moved_the_other_way_does_not_go_along():
    fleet = site("berlin", 1, moved=1) + site("rome", 4, 4, {"brightness": "up"})
    assert cause(fleet[0], fleet) == "sensor"


def test_without_peers_nothing_is_claimed():
    assert cause(Moved("a", "berlin", BRIGHT), []) == "unknown"
    assert cause(Moved("a", "berlin", BRIGHT), site("berlin", 1, 1)) == "unknown"


def test_the_widest_cause_of_several_features_is_told():
    alone, everywhere = Company(0, 3, 0, 3), Company(3, 3, 3, 3)
    assert peers.verdict([alone, everywhere]) == "model"
    assert peers.verdict([]) == "unknown"


fleets = st.lists(
    st.builds(
        Moved,
        st.integers(0, 40).map(str),
        st.sampled_from(["berlin", "rome", ""]),
        st.dictionaries(st.just("brightness"), st.sampled_from(["up", "down"])),
    ),
    max_size=30,
    unique_by=lambda build: build.device,
)
device = st.builds(Moved, st.just("me"), st.sampled_from(["berlin", "rome", ""]), st.just(BRIGHT))
BREADTH = ["sensor", "process", "model"]


@given(device, fleets, st.randoms(use_true_random=False))
def test_order_and_the_device_itself_do_not_matter(me, fleet, chance):
    shuffled = [*fleet, me]
    chance.shuffle(shuffled)
    assert company(me, "brightness", shuffled) == company(me, "brightness", fleet)


@given(device, fleets)
def test_every_peer_is_counted_once(me, fleet):
    found = company(me, "brightness", fleet)
    assert found.group_peers + found.others_peers == len(fleet)
    assert 0 <= found.group_along <= found.group_peers
    assert 0 <= found.others_along <= found.others_peers


@given(device, fleets.filter(lambda fleet: len(fleet) >= peers.PEERS_MIN), st.data())
def test_a_further_peer_that_goes_along_never_narrows_the_cause(me, fleet, data):
    place = data.draw(st.integers(0, len(fleet) - 1))
    joined = list(fleet)
    joined[place] = Moved(fleet[place].device, fleet[place].group, BRIGHT)
    before, after = (cause(me, item) for item in (fleet, joined))
    assert BREADTH.index(after) >= BREADTH.index(before)


@given(device, fleets.filter(lambda fleet: len(fleet) >= peers.PEERS_MIN))
def test_when_nobody_goes_along_it_is_the_sensor_and_when_all_do_it_never_is(me, fleet):
    quiet = [Moved(item.device, item.group) for item in fleet]
    loud = [Moved(item.device, item.group, BRIGHT) for item in fleet]
    assert cause(me, quiet) == "sensor"
    assert cause(me, loud) in ("process", "model")
