"""A pickle is opened only for somebody who trusts its maker; `tests/doors` converts real ones."""

import importlib.util
import pickle

import numpy as np
import pytest
from typer.testing import CliRunner

import muster_client
from muster_client.app import app
from muster_client.failures import Lacking, WrongUsage

ROWS = np.zeros((3, 2))


class Marker:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def pickled(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Marker(tmp_path / "opened")))
    return path


def test_a_pickle_is_not_opened_unless_its_maker_is_trusted(pickled, tmp_path):
    with pytest.raises(WrongUsage, match=r"runs whatever its maker put into it.*--trust-pickle"):
        muster_client.pack(pickled, ROWS, out=tmp_path / "out")
    done = CliRunner().invoke(app, ["model", "pack", str(pickled)])
    assert isinstance(done.exception, WrongUsage)
    assert not (tmp_path / "opened").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("skl2onnx") is not None, reason="the extra is installed here"
)
def test_without_the_extra_its_name_is_said_and_nothing_is_opened(pickled, tmp_path):
    with pytest.raises(Lacking, match=r"needs 'skl2onnx'.*muster-edge\[convert\]"):
        muster_client.pack(pickled, ROWS, out=tmp_path / "out", trust_pickle=True)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "what is converted is compared on data: give --data"),
        ({"a": ROWS, "b": ROWS}, "a table, or one array of rows and columns"),
    ],
)
def test_an_estimator_needs_data_to_be_compared_on(pickled, tmp_path, data, says):
    with pytest.raises(WrongUsage, match=says):
        muster_client.pack(pickled, data, out=tmp_path / "out", trust_pickle=True)
