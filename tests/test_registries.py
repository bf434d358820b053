"""Every place that can be extended has a file for each word, a word for each file, and no more."""

from pathlib import Path

import pytest

from muster_agent.feeds.sinks.registry import SINKS
from muster_agent.feeds.sources.registry import SOURCES
from muster_agent.runtimes import RUNTIMES
from muster_client.importers.registry import IMPORTERS
from muster_hub.alerts.channels.registry import CHANNELS
from muster_hub.loop.pipelines.registry import PIPELINES
from muster_hub.registry.gates.registry import GATES
from muster_hub.rollouts.gates.metrics.registry import METRICS
from muster_protocol.registry import Registry, UnknownWordError

ROOT = Path(__file__).resolve().parents[1]

REGISTRIES = {
    "agent/muster_agent/runtimes": (
        RUNTIMES,
        {"base", "onnx_file", "onnx_providers", "onnx_values", "registry", "smallest"},
    ),
    "agent/muster_agent/feeds/sources": (SOURCES, {"base", "registry"}),
    "agent/muster_agent/feeds/sinks": (SINKS, {"base", "registry"}),
    "hub/muster_client/importers": (
        IMPORTERS,
        {"archive", "base", "download", "git_tags", "importing", "mlflow_files", "registry"},
    ),
    "hub/muster_hub/alerts/channels": (CHANNELS, {"base", "registry"}),
    "hub/muster_hub/loop/pipelines": (PIPELINES, {"airflow", "base", "registry", "rest"}),
    "hub/muster_hub/registry/gates": (GATES, {"base", "registry"}),
    "hub/muster_hub/rollouts/gates/metrics": (METRICS, {"registry"}),
}
"""Folder of the entries: its registry, and which of its files are no entries."""


def stem(word: str) -> str:
    """Name of the file that a word's entry stands in."""
    return word.replace(" ", "_")


@pytest.mark.parametrize("folder", REGISTRIES)
def test_each_word_has_a_file_of_its_name_and_each_file_a_word(folder: str) -> None:
    registry, others = REGISTRIES[folder]
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"} - others
    assert files == {stem(word) for word in registry}


@pytest.mark.parametrize("folder", REGISTRIES)
def test_each_entry_comes_from_its_own_file(folder: str) -> None:
    registry, _ = REGISTRIES[folder]
    for word, entry in registry.items():
        assert type(entry).__module__.split(".")[-1] == stem(word)


@pytest.mark.parametrize("folder", REGISTRIES)
def test_a_word_that_is_not_known_is_refused(folder: str) -> None:
    registry: Registry[str, object] = REGISTRIES[folder][0]
    with pytest.raises(UnknownWordError, match="there is no"):
        registry.find("an unknown word")
