"""ONNX Runtime's execution providers: which are here, and how a session is made to use them.

Names and options are those of ONNX Runtime's documentation of execution providers. Pure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from muster_agent.runtimes.base import ModelError, Needs
from muster_protocol.wire.manifest import PROVIDERS, Provider, ProviderName


class Known(NamedTuple):
    """A provider as ONNX Runtime knows it."""

    name: str
    library: str
    """A file of the package that is there only with it; empty: always there."""
    options: frozenset[str]
    """That a manifest may set: none of them names a file."""
    threads: str = ""
    """The option that says how many threads it may use."""
    needs: Needs = "nothing"


KNOWN: Mapping[ProviderName, Known] = MappingProxyType(
    {
        "CPU": Known("CPUExecutionProvider", "", frozenset()),
        "CUDA": Known(
            "CUDAExecutionProvider",
            "libonnxruntime_providers_cuda.so",
            frozenset({"device_id", "gpu_mem_limit", "arena_extend_strategy", "use_tf32"}),
            needs="device",
        ),
        "TensorRT": Known(
            "TensorrtExecutionProvider",
            "libonnxruntime_providers_tensorrt.so",
            frozenset({"device_id", "trt_fp16_enable", "trt_int8_enable", "trt_dla_enable"}),
            needs="device",
        ),
        "OpenVINO": Known(
            "OpenVINOExecutionProvider",
            "libonnxruntime_providers_openvino.so",
            frozenset({"device_type", "precision", "num_streams"}),
            threads="num_of_threads",
            needs="code",
        ),
    }
)
NO_CPU = "session.disable_cpu_ep_fallback"
"""The setting by which a session is refused rather than partly computed on the processor."""


def present(libraries: Path) -> tuple[ProviderName, ...]:
    """Those whose library is in a folder, which holds a package's shared objects."""
    return tuple(
        name
        for name in PROVIDERS["onnx"]
        if not KNOWN[name].library or (libraries / KNOWN[name].library).is_file()
    )


def asked(providers: Sequence[Provider], threads: int) -> list[tuple[str, dict[str, str]]]:
    """Providers and options as a session takes them; raises ModelError for an unknown option."""
    made = []
    for provider in providers:
        known = KNOWN[provider.name]
        unknown = sorted(provider.options.keys() - known.options)
        if unknown:
            raise ModelError(
                f"the provider {provider.name} takes no option {unknown[0]!r}: "
                f"choose of {', '.join(sorted(known.options)) or 'none'}"
            )
        own = {known.threads: str(threads)} if known.threads else {}
        made.append((known.name, own | provider.options))
    return made


def needs_of(providers: Sequence[Provider]) -> Needs:
    """What the most demanding of them asks for; a processor is OpenVINO's device unless told."""
    needs: set[Needs] = set()
    for provider in providers:
        elsewhere = provider.options.get("device_type", "CPU") != "CPU"
        needs.add("device" if elsewhere else KNOWN[provider.name].needs)
    return "device" if "device" in needs else "code" if "code" in needs else "nothing"


def named(names: Sequence[str], asked_for: Sequence[Provider]) -> tuple[ProviderName, ...]:
    """Providers of a session by the manifest's names, without any that was not asked for."""
    by_name = {KNOWN[provider.name].name: provider.name for provider in asked_for}
    return tuple(by_name[name] for name in names if name in by_name)
