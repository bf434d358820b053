"""From recorded rows to samples: what a policy names of them, and nothing else. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from muster_agent.observe.sampling.choosing import Rows
from muster_agent.worker import rows as recorded
from muster_agent.worker.rows import ErrorKind, Quality, RingLayout, RowKind
from muster_protocol.signals.features import predicted
from muster_protocol.wire import limits, sampling
from muster_protocol.wire.errors import LimitError
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.sampling import Content, SampledFeature, SamplingLimits, SamplingPolicy

Tensors = Mapping[str, NDArray[Any]]


def described(
    layout: RingLayout, manifest: Manifest, rows: recorded.Rows, *, drifting: bool
) -> Rows:
    """What strata go by, of rows of a ring."""
    good = np.asarray(
        (rows["kind"] == RowKind.INFERENCE)
        & (rows["error"] == ErrorKind.NONE)
        & (rows["quality"] == Quality.GOOD)
    )
    scores = _scores(layout, manifest, rows)
    if scores is None:
        return Rows(good, drifting=drifting)
    return Rows(
        good,
        confidence=np.asarray(scores.max(axis=1), np.float64),
        classes=np.asarray(predicted(scores), np.float64).astype(np.int64),
        drifting=drifting,
    )


def _scores(layout: RingLayout, manifest: Manifest, rows: recorded.Rows) -> NDArray[Any] | None:
    classifier = manifest.classifier
    output = None if classifier is None else layout.output_arrays(rows).get(classifier.output)
    if classifier is None or output is None:
        return None
    scores: NDArray[Any] = output.reshape(len(output), -1)
    return np.nan_to_num(scores) if scores.shape[1] == len(classifier.classes) else None


def contents(
    policy: SamplingPolicy,
    allowed: SamplingLimits,
    layout: RingLayout,
    rows: recorded.Rows,
    code: Callable[[str, bytes], str],
) -> Sequence[bytes]:
    """Each row as an encoded ``Content``. ``code`` hashes a feature's bytes under its name.

    Raises LimitError for a row that is larger than a sample may be.
    """
    inputs = layout.input_arrays(rows)
    outputs = layout.output_arrays(rows) if policy.answers else {}
    found = []
    for place in range(len(rows)):
        features: dict[str, tuple[float | None, ...]] = {}
        codes: dict[str, str] = {}
        for name, privacy in policy.features.items():
            signed = allowed.features[name]
            part = _part(inputs, signed, place)
            match privacy:
                case "plain":
                    features[name] = _numbers(part)
                case "blur":
                    features[name] = _numbers(blurred(inputs[signed.tensor][place], signed))
                case "hash":
                    codes[name] = code(name, part.tobytes())
                case _:
                    assert_never(privacy)
        answers = {name: _numbers(array[place].ravel()) for name, array in outputs.items()}
        found.append(
            sampling.encode_content(
                Content(sampling.FORMAT, layout.manifest, features, codes, answers)
            )
        )
    return found


def blurred(image: NDArray[Any], signed: SampledFeature) -> NDArray[np.float64]:
    """Means of the cells of the grid that the release signed, in C order of [row, column, the
    other dimensions]; a cell with a pixel that is no number has none.

    Raises LimitError where it signed no grid.
    """
    blur = signed.blur
    if blur is UNSET:
        raise LimitError(f"no grid is signed that blurs {signed.tensor!r}")
    pixels = np.moveaxis(image, (blur.height_axis, blur.width_axis), (0, 1)).astype(np.float64)
    rows, row_pixels = _cells(pixels.shape[0], blur.rows)
    columns, column_pixels = _cells(pixels.shape[1], blur.columns)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), columns, axis=1)
    counts = np.outer(row_pixels, column_pixels)
    means = sums / counts.reshape(*counts.shape, *(1,) * (sums.ndim - 2))
    return means.astype(np.float32).astype(np.float64).ravel()


def _cells(pixels: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each cell begins along a side, and how many pixels it has: as equal as may be."""
    edges = np.arange(cells + 1, dtype=np.intp) * pixels // cells
    return edges[:-1], np.diff(edges)


def _part(tensors: Tensors, feature: SampledFeature, place: int) -> NDArray[Any]:
    row: NDArray[Any] = tensors[feature.tensor][place].ravel()
    return row[feature.first : feature.first + feature.count if feature.count else None]


def _numbers(values: NDArray[Any]) -> tuple[float | None, ...]:
    plain = np.asarray(values)
    if plain.dtype.kind == "f":
        plain = plain.astype(np.float64)
        known = np.isfinite(plain) & (np.abs(plain) <= limits.NUMBER_MAX)
        return tuple(
            number if good else None
            for number, good in zip(plain.tolist(), known.tolist(), strict=True)
        )
    return tuple(int(number) for number in plain.tolist())
