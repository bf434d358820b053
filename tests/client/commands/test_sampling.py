"""Sampling as an operator types it."""

import csv
import json

import msgspec
import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import WrongUsage
from muster_client.training.label_file import read_labels
from muster_hub.storage.models import Device, Model, Version
from muster_hub.storage.sampling import SampleRow
from muster_protocol.wire import chunks, manifest, sampling
from muster_protocol.wire.manifest import File
from muster_protocol.wire.sampling import Content, SampledFeature, SamplingLimits
from support.hub_kit import open_kit
from wire_samples import MANIFEST, SHA_A

FILE = sampling.encode_limits(
    SamplingLimits(
        features={
            "corner": SampledFeature("image", 2, 1),
            "edge": SampledFeature("image", 0, 2),
        },
        rows_per_day=9,
        rows_max=99,
    )
)


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    listed = (*MANIFEST.files, File(sampling.FILE, len(FILE), chunks.sha256_hex(FILE)))
    data = manifest.encode(msgspec.structs.replace(MANIFEST, files=listed))
    with made.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        session.add(Device(id="cam-1", labels={}, created=1))
        session.flush()
        session.add(Version(
            model="digits", version="1.0.0", manifest=data, status="published", created=1,
            manifest_sha256=chunks.sha256_hex(data), size_bytes=1, created_by="token:ci",
        ))  # fmt: skip
    made.hub.blobs.put(FILE)
    yield made
    made.close()


def muster(kit, *arguments):
    token = kit.as_("operator")["Authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(app, ["--hub", str(kit.http.base_url), "--token", token, *arguments])


def shown(kit, *arguments):
    ended = muster(kit, "sampling", *arguments)
    assert ended.exit_code == 0, ended.output or ended.exception
    return " ".join(ended.stdout.split())


BEGIN = ("begin", "digits", "1.0.0", "--feature", "edge", "--rows-per-day", "9")


def test_a_policy_from_its_begin_to_labelled_rows_for_training(kit, tmp_path):
    assert "Nothing was ever sampled." in shown(kit, "list")
    said = shown(kit, *BEGIN, "--strata", "random,by_class", "--reason", "it drifts")
    assert "9 a day and device: random, by_class" in said
    assert "it drifts" in shown(kit, "list")
    assert "No sample has come." in shown(kit, "samples", "1")
    content = sampling.encode_content(Content(1, SHA_A, {"edge": (1.0, None)}))
    name = chunks.sha256_hex(content)
    with kit.hub.store.write() as session:
        session.add(SampleRow(
            device="cam-1", epoch="e", sequence=1, policy=1, sha256=name, stratum="random",
            taken=1, received=1, content=content,
        ))  # fmt: skip
    assert name[:16] in shown(kit, "samples", "1")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"sha256,label\n{name},seven\n")
    assert "1 samples have a label" in shown(kit, "label", "1", str(labels))
    assert "1 samples in" in shown(kit, "download", "1", "-o", str(tmp_path / "rows.csv"))
    (row,) = csv.DictReader((tmp_path / "rows.csv").open())
    assert (row["edge[0]"], row["edge[1]"], row["label"]) == ("1.0", "", "seven")
    shown(kit, "download", "1", "-o", str(tmp_path / "rows.jsonl"))
    assert json.loads((tmp_path / "rows.jsonl").read_text())["sha256"] == name
    assert "ended" in shown(kit, "end", "1", "--yes")
    assert "1 samples deleted" in shown(kit, "forget", "1", "--yes")


def test_a_table_has_a_devices_rows_together_and_columns_in_the_order_that_was_asked(kit, tmp_path):
    begin = list(BEGIN)
    begin[5:5] = ["--feature", "corner"]
    shown(kit, *begin)
    with kit.hub.store.write() as session:
        session.add(Device(id="cam-2", labels={}, created=1))
        session.flush()
        for number, (device, taken) in enumerate((("cam-2", 1), ("cam-1", 9), ("cam-1", 2))):
            numbers = {"corner": (float(taken),), "edge": (1.0, None)}
            content = sampling.encode_content(Content(1, SHA_A, numbers))
            session.add(SampleRow(
                device=device, epoch="e", sequence=number, policy=1, stratum="random",
                sha256=chunks.sha256_hex(content), taken=taken, received=1, content=content,
            ))  # fmt: skip
    shown(kit, "download", "1", "-o", str(tmp_path / "rows.csv"))
    first, *rows = csv.reader((tmp_path / "rows.csv").open())
    assert first[:3] == ["edge[0]", "edge[1]", "corner"]
    assert [(row[5], row[2]) for row in rows] == [("cam-1", "2.0"), ("cam-1", "9.0"),
                                                  ("cam-2", "1.0")]  # fmt: skip


def test_labels_are_json_lines_too_of_our_own_or_of_sagemakers_form(tmp_path):
    file = tmp_path / "labels.jsonl"
    truth = {
        "groundTruthData": {"data": "worn", "encoding": "CSV"},
        "eventMetadata": {"eventId": "bb"}, "eventVersion": "0",
    }  # fmt: skip
    lines = [{"sha256": "aa", "label": 3, "features": {"flow": 1.0}}, truth,
             {"sha256": "cc", "label": None}]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert read_labels(file) == {"aa": "3", "bb": "worn"}
    for wrong, words in (
        ('{"label": "x"}', "line 1: .*needs sha256 and label, or groundTruthData"),
        ('{"groundTruthData": {"data": "x"}}', "line 1"),
        ("[", "line 1"),
        ('{"sha256": "aa"}', "no line has a label"),
    ):
        file.write_text(wrong)
        with pytest.raises(WrongUsage, match=words):
            read_labels(file)


def test_what_was_typed_wrong_is_named(kit, tmp_path):
    for wrong, words in (
        (("--feature", "edge=dim"), "say NAME, NAME=plain, NAME=blur or NAME=hash"),
        (("--strata", "all"), "choose of random"),
    ):
        ended = muster(kit, "sampling", *BEGIN, *wrong)
        assert isinstance(ended.exception, WrongUsage)
        assert words in str(ended.exception)
    labels = tmp_path / "labels.csv"
    labels.write_text("name,truth\n")
    ended = muster(kit, "sampling", "label", "1", str(labels))
    assert "needs the columns sha256 and label" in str(ended.exception)
