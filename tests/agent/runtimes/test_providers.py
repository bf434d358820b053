"""What computes a model: chosen by the manifest, by nothing else, and said."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from msgspec import UNSET

from muster_agent import runtimes
from muster_agent.runtimes import ModelError, NoRuntimeError, onnx_providers
from muster_agent.runtimes.onnx_providers import KNOWN, asked, needs_of, present
from muster_agent.update.preflight import Hardware, refusal
from muster_agent.worker.process import threads_of
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import MIB, THREADS_MAX
from muster_protocol.wire.manifest import PROVIDERS, Build, Provider, ProviderName
from support.models import dense_onnx, dense_tflite, softmax, weights

W, B = weights(inputs=4, classes=3)
X = np.random.default_rng(3).normal(size=(2, 4)).astype(np.float32)


def loaded(runtime: str, *names: ProviderName, **how: Any) -> Any:
    model = dense_onnx(W, B) if runtime == "onnx" else dense_tflite(W, B)
    return runtimes.load(runtime, model, providers=[Provider(name) for name in names], **how)


def test_every_provider_belongs_to_a_runtime_and_onnx_knows_each_of_its_own() -> None:
    assert {name for names in PROVIDERS.values() for name in names} == {*get_args(ProviderName)}
    assert {*KNOWN} == {*PROVIDERS["onnx"]}


@pytest.mark.parametrize(
    ("runtime", "names", "used"),
    [
        ("onnx", (), ("CPU",)),
        ("onnx", ("CPU",), ("CPU",)),
        ("onnx", ("CUDA", "CPU"), ("CPU",)),
        ("tflite", (), ("XNNPACK", "CPU")),
        ("tflite", ("XNNPACK",), ("XNNPACK", "CPU")),
        ("tflite", ("CPU",), ("CPU",)),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_says_what_computes_it_and_answers_the_same(
    runtime: str, names: tuple[ProviderName, ...], used: tuple[str, ...], threads: int
) -> None:
    model = loaded(runtime, *names, threads=threads)
    assert model.providers == used
    answer = model.run({"x": X})["probabilities"]
    np.testing.assert_allclose(answer, softmax(X, W, B), rtol=1e-4, atol=1e-5)


def test_what_the_manifest_does_not_allow_is_not_fallen_back_to() -> None:
    with pytest.raises(NoRuntimeError, match=r"asks for CUDA or OpenVINO, and .* has CPU: install"):
        loaded("onnx", "CUDA", "OpenVINO")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_whose_library_is_there_but_does_not_start_is_no_reason_to_use_another(
    tmp_path: Path,
) -> None:
    only = [Provider("CUDA")]
    from muster_agent.runtimes.onnx import OnnxModel  # noqa: PLC0415 - it imports onnxruntime

    with pytest.raises(ModelError, match="CUDA"):
        OnnxModel(dense_onnx(W, B), providers=only)
    assert OnnxModel(dense_onnx(W, B), providers=[*only, Provider("CPU")]).providers == ("CPU",)


def test_providers_are_known_by_the_libraries_that_a_package_brings(tmp_path: Path) -> None:
    assert present(tmp_path) == ("CPU",)
    for name in ("openvino", "cuda"):
        (tmp_path / f"libonnxruntime_providers_{name}.so").touch()
    assert present(tmp_path) == ("CPU", "CUDA", "OpenVINO")
    assert runtimes.providers()["onnx"][0] == "CPU"


def test_options_are_those_that_name_no_file_and_threads_are_the_manifest_s() -> None:
    given = Provider("OpenVINO", {"device_type": "CPU"})
    assert asked([given], 2) == [
        ("OpenVINOExecutionProvider", {"num_of_threads": "2", "device_type": "CPU"})
    ]
    with pytest.raises(ModelError, match=r"OpenVINO takes no option 'cache_dir': choose of dev"):
        asked([Provider("OpenVINO", {"cache_dir": "x"})], 1)
    with pytest.raises(ModelError, match="XNNPACK takes no options"):
        runtimes.load(
            "tflite", dense_tflite(W, B), providers=[Provider("XNNPACK", {"threads": "2"})]
        )


@pytest.mark.parametrize(
    ("providers", "needs"),
    [
        ([], "nothing"),
        ([Provider("CPU")], "nothing"),
        ([Provider("OpenVINO"), Provider("CPU")], "code"),
        ([Provider("OpenVINO", {"device_type": "GPU"})], "device"),
        ([Provider("TensorRT"), Provider("CUDA"), Provider("CPU")], "device"),
    ],
)
def test_what_a_provider_asks_of_its_process_is_known_before_it_starts(
    providers: list[Provider], needs: onnx_providers.Needs
) -> None:
    assert needs_of(providers) == needs


@pytest.mark.parametrize(
    ("names", "has", "refused"),
    [
        (("OpenVINO",), ("CPU",), True),
        (("OpenVINO", "CPU"), ("CPU",), False),
        (("OpenVINO",), ("CPU", "OpenVINO"), False),
        (("OpenVINO",), (), False),
    ],
)
def test_a_device_refuses_before_the_fetch_what_none_of_its_providers_may_compute(
    names: tuple[ProviderName, ...], has: tuple[str, ...], refused: bool
) -> None:
    build = Build("onnx", "model.onnx", MIB, providers=tuple(map(Provider, names)))
    found = refusal(build, Hardware(providers={"onnx": has}))
    assert (found is not None) == refused
    if found is not None:
        assert found[0] == Refusal.NO_RUNTIME
        assert "asks for OpenVINO, and the runtime here has CPU" in found[1]


def test_a_build_gets_the_threads_it_asks_for_as_far_as_there_are_cores() -> None:
    build = Build("onnx", "model.onnx", MIB)
    assert build.threads is UNSET
    assert threads_of(build) == threads_of(None) == 1
    many = Build("onnx", "model.onnx", MIB, threads=THREADS_MAX)
    assert 1 <= threads_of(many) <= THREADS_MAX
