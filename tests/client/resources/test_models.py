"""What can't be right is refused before a byte goes to a hub."""

import numpy as np
import pytest

from muster_client.failures import WrongUsage
from muster_client.resources.models import read_manifest
from muster_protocol.signals import baseline, features
from muster_protocol.wire.manifest import Classifier
from support import models as fixtures


def test_a_bundle_that_a_device_can_use_is_taken(tmp_path):
    written, _ = fixtures.write_bundle(tmp_path)
    assert read_manifest(tmp_path)[0] == written


def test_a_baseline_of_another_model_is_refused(tmp_path):
    rows = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    trained = baseline.fit({"pixels": rows}, features.elements("pixels", 4))
    fixtures.write_bundle(tmp_path, trained=baseline.encode(trained))
    with pytest.raises(WrongUsage, match="watches a tensor 'pixels'"):
        read_manifest(tmp_path)


def test_a_classifier_of_other_scores_is_refused(tmp_path):
    fixtures.write_bundle(tmp_path, classifier=Classifier("probabilities", ("a", "b")))
    with pytest.raises(WrongUsage, match="names 2 classes"):
        read_manifest(tmp_path)
