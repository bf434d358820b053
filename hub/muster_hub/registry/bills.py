"""A version's bill of materials as CycloneDX 1.7: the model, its card, its files by hash. Pure."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from muster_hub.registry.gates.base import Shown

SPEC_VERSION = "1.7"
NAMESPACE = uuid.UUID("5f5fd6a2-3c1a-4bb0-9f5b-0d5b63b1a7ce")
"""Ours alone, so that a version's bill always has the same serial number."""
Plain = dict[str, Any]


def bill(shown: Shown, card: Mapping[str, Any], *, tool_version: str) -> Plain:
    """The bill of one version; ``card`` is its model card."""
    manifest = shown.manifest
    serial = uuid.uuid5(NAMESPACE, str(card["manifest_sha256"]))
    pushed = datetime.fromtimestamp(float(card["pushed"]), UTC)
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": pushed.isoformat(timespec="seconds"),
            "tools": {
                "components": [
                    {"type": "application", "name": "muster-hub", "version": tool_version}
                ]
            },
            "component": _model(shown, card),
        },
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{file.path}",
                "name": file.path,
                "hashes": [{"alg": "SHA-256", "content": file.sha256}],
            }
            for file in manifest.files
        ]
        + _data(card),
        "dependencies": [
            {"ref": "model", "dependsOn": [f"file:{file.path}" for file in manifest.files]}
        ],
    }


def _model(shown: Shown, card: Mapping[str, Any]) -> Plain:
    manifest, said, lineage = shown.manifest, card["said"], card["lineage"]
    model: Plain = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest.model,
        "version": manifest.version,
        "hashes": [{"alg": "SHA-256", "content": card["manifest_sha256"]}],
        "modelCard": {
            "modelParameters": _parameters(card),
            "quantitativeAnalysis": {"performanceMetrics": _performance(card)},
            "considerations": _considerations(card),
        },
        "properties": [
            {"name": f"muster:{name}", "value": str(value)}
            for name, value in {
                "source": lineage["source"],
                "commit": lineage["commit"],
                "trained_at": lineage["trained_at"],
                "status": card["status"],
                "pushed_by": card["pushed_by"],
                "contact": said["contact"],
            }.items()
            if value
        ],
    }
    if said["licence"]:
        model["licenses"] = [{"license": {"name": said["licence"]}}]
    return model


def _parameters(card: Mapping[str, Any]) -> Plain:
    def tensors(listed: Any) -> list[Plain]:
        return [{"format": f"{each['datatype']} {each['name']} {each['shape']}"} for each in listed]

    found: Plain = {"inputs": tensors(card["inputs"]), "outputs": tensors(card["outputs"])}
    if card["classes"]:
        found["task"] = "classification"
    if card["lineage"]["data"]:
        found["datasets"] = [{"ref": "data:training"}]
    return found


def _performance(card: Mapping[str, Any]) -> list[Plain]:
    overall = [
        {"type": name, "value": f"{value:g}"} for name, value in sorted(card["metrics"].items())
    ]
    groups = [
        {"type": metric, "value": f"{value:g}", "slice": f"{column}={group}"}
        for column, listed in card["groups"].items()
        for group, numbers in listed.items()
        for metric, value in numbers.items()
    ]
    return overall + groups


def _considerations(card: Mapping[str, Any]) -> Plain:
    said = card["said"]
    found: Plain = {}
    if said["intended_use"]:
        found["useCases"] = [said["intended_use"]]
    limits = [said[name] for name in ("limitations", "out_of_scope") if said[name]]
    if limits:
        found["technicalLimitations"] = limits
    if said["risks"]:
        found["ethicalConsiderations"] = [
            {"name": said["risks"], "mitigationStrategy": said["oversight"] or "none named"}
        ]
    fairness = [each for each in card["gates"] if each["gate"].startswith("fairness")]
    if fairness:
        found["fairnessAssessments"] = [
            {
                "groupAtRisk": each["gate"].rpartition(" by ")[2],
                "harms" if not each["ok"] else "benefits": each["says"],
            }
            for each in fairness
        ]
    return found


def _data(card: Mapping[str, Any]) -> list[Plain]:
    text = card["lineage"]["data"]
    if not text:
        return []
    return [
        {
            "type": "data",
            "bom-ref": "data:training",
            "name": text[:200],
            "data": [{"type": "dataset", "name": text[:200]}],
        }
    ]
