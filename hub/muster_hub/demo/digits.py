"""Handwritten digits and the two classifiers the demo releases.

Images are the 8x8 scans bundled with scikit-learn, float32 ``[n, 8, 8]`` with ink 0 to 16. One half
trains, the other half is only ever fed to devices.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from muster_hub.demo.camera import INK_MAX, Camera

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

SIDE = 8
FOLDS = 4
CLASSES = tuple(str(digit) for digit in range(10))
AUGMENTATIONS = (
    Camera(),
    Camera(blur=1.0),
    Camera(blur=1.0, gain=0.5),
    Camera(blur=0.6, gain=0.6, glow=4.0),
    Camera(blur=1.0, gain=0.5, glow=7.0),
)
"""How the second version's training images are varied; the first is the plain image."""


@dataclass(frozen=True)
class Digits:
    """The two halves: ``train_*`` for fitting and baselines, ``held_out_*`` for feeding."""

    train_images: Floats
    train_labels: Labels
    held_out_images: Floats
    held_out_labels: Labels


@dataclass(frozen=True)
class Classifier:
    """A trained network, and what it was trained on."""

    network: Any
    digits: Digits
    variations: tuple[Camera, ...]
    seed: int

    @cached_property
    def unseen(self) -> Floats:
        """``[n, 10]``: each plain training image's probabilities from a twin trained without it.

        A baseline of confidence needs these; a network is too sure of what it has learnt.
        """
        images, labels = self.digits.train_images, self.digits.train_labels
        said = np.empty((len(images), len(CLASSES)), dtype=np.float32)
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=self.seed)
        for rest, fold in folds.split(_rows(images), labels):
            twin = _fit(images[rest], labels[rest], self.variations, self.seed)
            said[fold] = twin.predict_proba(_rows(images[fold]))
        return said

    def probabilities(self, images: Floats) -> Floats:
        """Class probabilities ``[n, 10]`` as scikit-learn computes them."""
        return np.asarray(self.network.predict_proba(_rows(images)), dtype=np.float32)

    def accuracy(self, images: Floats, labels: Labels) -> float:
        """Share of the images whose digit it names rightly."""
        return float(np.mean(self.probabilities(images).argmax(axis=1) == labels))

    def layers(self) -> list[tuple[Floats, Floats]]:
        """Weights ``[in, out]`` and bias ``[out]`` of each layer, for input ink 0 to 16."""
        first, *rest = self.network.coefs_
        weights = [first / INK_MAX, *rest]
        return [
            (np.asarray(w, dtype=np.float32), np.asarray(b, dtype=np.float32))
            for w, b in zip(weights, self.network.intercepts_, strict=True)
        ]


def load(seed: int = 7) -> Digits:
    """scikit-learn's digits, split into training and test by ``seed``."""
    bunch = load_digits()
    images = bunch.images.astype(np.float32)
    labels = bunch.target.astype(np.int64)
    train, held_out, train_labels, held_out_labels = train_test_split(
        images, labels, test_size=0.5, stratify=labels, random_state=seed
    )
    return Digits(train, train_labels, held_out, held_out_labels)


def train(
    digits: Digits, variations: tuple[Camera, ...] = (Camera(),), seed: int = 0
) -> Classifier:
    """Fit a classifier on the training half as each of ``variations`` would see it."""
    network = _fit(digits.train_images, digits.train_labels, variations, seed)
    return Classifier(network, digits, variations, seed)


def _fit(images: Floats, labels: Labels, variations: tuple[Camera, ...], seed: int) -> Any:
    seen = np.concatenate([camera.see(images) for camera in variations])
    network = MLPClassifier(
        hidden_layer_sizes=(64,),
        alpha=0.1,
        learning_rate_init=0.003,
        max_iter=400,
        random_state=seed,
    )
    # On matrices this small more threads only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return network.fit(_rows(seen), np.tile(labels, len(variations)))


def _rows(images: Floats) -> Floats:
    return images.reshape(len(images), SIDE * SIDE) / INK_MAX
