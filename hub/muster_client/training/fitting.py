"""A baseline from a file of training data: what is watched, and its distribution."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from muster_client.failures import WrongUsage
from muster_client.training.data import TrainingData, read
from muster_protocol.signals import baseline, features
from muster_protocol.signals.baseline import Baseline
from muster_protocol.wire.errors import ProtocolError


def fit_file(
    data: Path,
    out: Path,
    *,
    tensor: str = "input",
    images: Iterable[str] = (),
    classifier: str | None = None,
) -> Baseline:
    """Bin each feature of ``data`` and write the baseline to ``out``, as a bundle carries it.

    Columns of a table are the elements of ``tensor``; ``images`` are ``TENSOR=HEIGHTxWIDTH``;
    ``classifier`` is the array of class scores. Raises WrongUsage naming the file at fault.
    """
    try:
        training = read(data, tensor)
        fitted = baseline.fit(training.tensors, watch(training, images, classifier))
        encoded = baseline.encode(fitted)
    except ProtocolError as error:
        raise WrongUsage(f"{data}: {error}") from None
    try:
        out.write_bytes(encoded)
    except OSError as error:
        raise WrongUsage(f"{out}: {error.strerror}") from None
    return fitted


def watch(
    training: TrainingData, images: Iterable[str], classifier: str | None
) -> list[features.Feature]:
    """What to watch: images by their statistics, scores as classes, all else element by element."""
    tensors = training.tensors
    sizes = dict(_image(text) for text in images)
    watched: list[features.Feature] = []
    for name in [*sizes, *filter(None, [classifier])]:
        if name not in tensors:
            raise WrongUsage(f"no array {name!r} in the data, which has {', '.join(tensors)}")
    for name, array in tensors.items():
        if name in sizes:
            height, width = sizes[name]
            watched += features.image(name, height=height, width=width)
        elif name == classifier:
            watched += features.classifier(name)
        elif name in training.columns:
            watched += [
                features.Feature(column, features.Element(name, index), kind)
                for index, (column, kind) in enumerate(training.columns[name])
            ]
        else:
            width = int(np.prod(array.shape[1:], dtype=np.int64))
            watched += features.elements(name, width)
    return watched


def _image(text: str) -> tuple[str, tuple[int, int]]:
    name, _, size = text.rpartition("=")
    height, _, width = size.partition("x")
    if not (name and height.isdecimal() and width.isdecimal()):
        raise WrongUsage(f"image {text!r}: write it as TENSOR=HEIGHTxWIDTH")
    return name, (int(height), int(width))
