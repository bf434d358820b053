"""Does a baseline watch what a device records of its model? Asked before anything is signed. Pure.

One that doesn't would switch drift detection off on every device. ``wire.usable`` is the rule for
all else that a manifest says.
"""

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.features import Confidence, Extractor, Feature, Predicted
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.usable import elements, is_recorded


def watchable(manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """No rows of each tensor that features can be made of, by name."""
    tensors = (*manifest.inputs, *manifest.outputs)
    return {
        tensor.name: np.empty((0, *tensor.element_shape), np.float32)
        for tensor in tensors
        if is_recorded(tensor)
    }


def check(manifest: Manifest, baseline: Baseline) -> None:
    """Raise ProtocolError when the baseline watches what a device doesn't record of this model."""
    try:
        _check_features(manifest, baseline)
    except ProtocolError as error:
        raise ProtocolError(f"{manifest.model} {manifest.version}: {error}") from None


def _check_features(manifest: Manifest, baseline: Baseline) -> None:
    tensors = watchable(manifest)
    declared = {tensor.name for tensor in (*manifest.inputs, *manifest.outputs)}
    if not baseline.features:
        raise ProtocolError("the baseline watches nothing: leave it out, or fit it on some column")
    for feature in baseline.features:
        name = feature.source.tensor
        if name not in declared:
            raise ProtocolError(
                f"the baseline's feature {feature.name!r} watches a tensor {name!r}, which the "
                f"model doesn't have; it has {', '.join(sorted(declared))}: no drift would be seen"
            )
        if name not in tensors:
            raise ProtocolError(
                f"the baseline's feature {feature.name!r} watches {name!r}, which is text or of "
                "varying size and isn't recorded on a device: no drift would be seen"
            )
        _check_scores(feature, manifest)
        try:
            Extractor((feature,)).extract(tensors)
        except ProtocolError as error:
            raise ProtocolError(f"the baseline doesn't fit the model: {error}") from None


def _check_scores(feature: Feature, manifest: Manifest) -> None:
    tensor = next(
        tensor
        for tensor in (*manifest.inputs, *manifest.outputs)
        if tensor.name == feature.source.tensor
    )
    if isinstance(feature.source, Predicted | Confidence) and elements(tensor) < 2:
        raise ProtocolError(
            f"the baseline's feature {feature.name!r} reads {tensor.name!r} as scores of classes, "
            "but that is a single number"
        )
