"""What may be sampled: a policy is never wider than what was signed, and the wire is frozen."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from msgspec import UNSET

from muster_protocol.wire import directive, limits, sampling
from muster_protocol.wire.directive import Slot
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.messages import Stamp
from muster_protocol.wire.sampling import (
    Blur,
    Content,
    Privacy,
    Sample,
    SampledFeature,
    SamplingLimits,
    SamplingPolicy,
)
from muster_protocol.wire.tensors import Tensor
from wire_samples import DIRECTIVE, MANIFEST, SHA_A

NAMES = st.sampled_from(["a", "b", "c", "d"])
PRIVACY: st.SearchStrategy[Privacy] = st.sampled_from(["plain", "blur", "hash"])
ROWS = st.integers(1, 9)
GRID = Blur(2, 2)
SHOWS = ["hash", "blur", "plain"]
"""What each privacy shows, the least first."""
SIGNED = st.builds(
    SamplingLimits,
    features=st.dictionaries(
        NAMES,
        st.builds(
            SampledFeature,
            tensor=st.just("x"),
            privacy=PRIVACY,
            blur=st.just(UNSET) | st.just(GRID),
        ),
        min_size=1,
    ),
    rows_per_day=ROWS,
    rows_max=ROWS,
    answers=st.booleans(),
)
ASKED = st.builds(
    SamplingPolicy,
    policy=st.just("1"),
    features=st.dictionaries(NAMES, PRIVACY, min_size=1),
    rows_per_day=ROWS,
    strata=st.just(("random",)),
    expires=st.just(1),
    answers=st.booleans(),
)
SEEING = msgspec.structs.replace(
    MANIFEST,
    inputs=(
        *MANIFEST.inputs,
        Tensor("photo", "UINT8", (-1, 64, 64)),
        Tensor("wide", "UINT8", (-1, 640, 640, 3)),
    ),
)
FROZEN = bytes.fromhex(
    "9601a137a46d61696e94c404626f6f74cb4014000000000000cb4018000000000000a7756e6b6e6f776ea672"
    "616e646f6dc45b9501d940613161316131613161316131613161316131613161316131613161316131613161"
    "3161316131613161316131613161316131613161316131613161316131613181a16192cb3ff0000000000000"
    "c081a162a46330646580"
)


@given(ASKED, SIGNED)
def test_a_policy_passes_only_where_each_part_of_it_is_signed(
    asked: SamplingPolicy, signed: SamplingLimits
) -> None:
    within = (
        asked.features.keys() <= signed.features.keys()
        and all(
            SHOWS.index(privacy) <= SHOWS.index(signed.features[name].privacy)
            and (privacy != "blur" or signed.features[name].blur == GRID)
            for name, privacy in asked.features.items()
        )
        and asked.rows_per_day <= signed.rows_per_day
        and (signed.answers or not asked.answers)
    )
    assert (sampling.excess(asked, signed) == "") == within
    assert sampling.excess(asked, None)


@given(SIGNED)
def test_limits_come_back_from_their_file(signed: SamplingLimits) -> None:
    assert sampling.decode_limits(sampling.encode_limits(signed)) == signed


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"features":{},"rows_per_day":1,"rows_max":1}', b"\xff",
     b'{"features":{"a":{"tensor":"x"}},"rows_per_day":0,"rows_max":1}',
     b'{"features":{"a":{"tensor":"x"}},"rows_per_day":1,"rows_max":1,"all":true}'],
)  # fmt: skip
def test_a_file_that_says_nothing_usable_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=sampling.FILE):
        sampling.decode_limits(data)


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (SampledFeature("depth"), "no input 'depth'"),
        (SampledFeature("image", 60, 5), "has 64 numbers"),
        (SampledFeature("image", 64), "has 64 numbers"),
        (SampledFeature("image", privacy="blur"), "needs the grid"),
        (SampledFeature("image", blur=Blur(2, 2)), "only an image as a whole"),
        (SampledFeature("photo", 1, blur=Blur(2, 2)), "only an image as a whole"),
        (SampledFeature("photo", blur=Blur(2, 2, 1, 1)), "only an image as a whole"),
        (SampledFeature("photo", blur=Blur(17, 17)), "have 9 pixels each at least"),
        (SampledFeature("wide", blur=Blur(64, 64)), "12288 numbers"),
    ],
)
def test_a_feature_that_the_inputs_do_not_have_is_named(
    feature: SampledFeature, words: str
) -> None:
    signed = SamplingLimits(features={"a": feature}, rows_per_day=1, rows_max=1)
    with pytest.raises(ProtocolError, match=words):
        sampling.check_limits(signed, SEEING)


def test_a_sample_has_the_bytes_that_deployed_hubs_know() -> None:
    content = sampling.encode_content(Content(1, SHA_A, {"a": (1.0, None)}, {"b": "c0de"}))
    sample = Sample(1, "7", "main", Stamp(b"boot", 5.0, 6.0, "unknown"), "random", content)
    data = sampling.encode(sample)
    assert sampling.decode(data) == (sample, Content(1, SHA_A, {"a": (1.0, None)}, {"b": "c0de"}))
    assert len(sample.sha256) == 64
    assert data == FROZEN


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        sampling.decode(data)
    except ProtocolError:
        return


def test_a_row_that_is_too_large_is_refused_with_what_to_do() -> None:
    numbers = tuple(float(number) for number in range(limits.SAMPLE_BYTES_MAX // 9 + 1))
    with pytest.raises(LimitError, match="sample fewer features"):
        sampling.encode_content(Content(1, SHA_A, {"a": numbers}))


def test_a_directive_without_a_policy_has_the_bytes_of_before_and_one_with_it_comes_back() -> None:
    policy = SamplingPolicy(
        policy="7", features={"a": "hash"}, rows_per_day=5, strata=("random", "by_class"), expires=9
    )
    slot = Slot(DIRECTIVE.slots["vision"].champion, sampling=policy)
    asked = msgspec.structs.replace(DIRECTIVE, slots={"vision": slot})
    assert b"strata" not in directive.encode(DIRECTIVE)
    assert directive.decode(directive.encode(asked)) == asked


def test_features_become_columns() -> None:
    assert dict(sampling.columns({"a": (1.0,), "b": (2.0, None)})) == {
        "a": 1.0, "b[0]": 2.0, "b[1]": None,
    }  # fmt: skip
