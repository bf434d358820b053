"""A version of SageMaker's registry becomes a bundle, by a stand-in of AWS's documented API."""

import io
import json
import sys
import tarfile

import pytest

from muster_client.failures import Lacking, OperatorError, Unreachable, WrongUsage
from muster_client.importers import importing
from muster_client.importers.registry import importer_of
from support import models as fixtures
from support.ports import free_port
from support.sagemaker_registry import ARN, Registry, package

MODEL = fixtures.dense_onnx(*fixtures.weights())


def tarred(data=MODEL, name="pump.onnx"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def registry(monkeypatch, tmp_path):
    pytest.importorskip("botocore", reason="the extra aws is not installed")
    made = Registry(
        packages=[package(1), package(2), package(3, ModelApprovalStatus="PendingManualApproval")],
        objects={f"models/{number}.tar.gz": tarred() for number in (1, 2, 3)},
    )
    with made.served() as url:
        for name, value in {
            "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield made


def brought(tmp_path, uri):
    importer, place = importer_of(uri)
    return importer.bring(importer.find(place), tmp_path / "room")


def refusal(uri, kind=WrongUsage):
    with pytest.raises(kind) as caught:
        importing.find(uri)
    return str(caught.value)


def test_a_group_stands_for_its_newest_approved_version(registry):
    found = importing.find("sagemaker:pumps")
    assert (found.identity, found.name, found.version) == (f"{ARN}/2", "pumps", "2")


def test_a_version_that_is_named_is_taken_and_its_approval_noted(registry):
    found = importing.find("sagemaker:pumps@3")
    assert found.version == "3"
    assert "SageMaker: PendingManualApproval" in found.origin.notes


def test_what_the_registry_says_becomes_lineage(tmp_path, registry):
    quality = {"Statistics": {"ContentType": "application/json", "S3Uri": "s3://models/q.json"}}
    registry.packages.append(
        package(
            4, ModelMetrics={"ModelQuality": quality}, ApprovalDescription="better on line 2",
            MetadataProperties={"CommitId": "4f2a91c", "Repository": "https://git.example/pump"},
            CustomerMetadataProperties={"line": "2"},
        )
    )  # fmt: skip
    registry.objects["models/4.tar.gz"] = tarred()
    registry.objects["models/q.json"] = json.dumps(
        {
            "multiclass_classification_metrics": {
                "accuracy": {"value": 0.97, "standard_deviation": 0}
            }
        }
    ).encode()
    found = importing.import_model(
        "sagemaker:pumps", out=tmp_path / "bundle", cache=tmp_path / "cache"
    )
    assert (found.manifest.model, found.manifest.version) == ("pumps", "4")
    lineage = found.manifest.lineage
    assert lineage.source == f"sagemaker:{ARN}/4"
    assert lineage.commit == "4f2a91c"
    assert lineage.metrics == {"accuracy": 0.97}
    assert lineage.trained_at == "2026-01-01T00:00:00+00:00"
    assert "Approved (better on line 2)" in lineage.notes
    assert "line=2" in lineage.notes


def test_a_download_that_broke_off_goes_on_where_it_ended(tmp_path, registry):
    registry.break_off_at = 100
    assert brought(tmp_path, "sagemaker:pumps/pump.onnx").model.read_bytes() == MODEL
    assert registry.ranges == ["bytes=0-", "bytes=100-"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("pumps@7", "no version 7"),
        ("fans", "no approved version"),
        ("pumps@x", "write sagemaker:GROUP"),
        ("s3://pumps", "write sagemaker:GROUP"),
    ],
)
def test_what_is_not_there_is_refused(registry, place, words):
    assert words in refusal(f"sagemaker:{place}")


@pytest.mark.parametrize("url", ["s3://models/folder/", "https://elsewhere/model.bin", ""])
def test_a_model_that_is_no_archive_is_refused_with_what_to_do(registry, url):
    registry.packages = [package(1, InferenceSpecification={"Containers": [{"ModelDataUrl": url}]})]
    assert "folder:PATH" in refusal("sagemaker:pumps")


def test_an_object_that_is_gone_is_refused_in_awss_words(tmp_path, registry):
    registry.objects.clear()
    with pytest.raises(OperatorError, match="404"):
        brought(tmp_path, "sagemaker:pumps")


def test_without_region_or_credentials_it_says_which_variables(registry, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "AWS_ACCESS_KEY_ID" in refusal("sagemaker:pumps")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "AWS_REGION" in refusal("sagemaker:pumps")


def test_a_service_that_is_not_there_is_unreachable(registry, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "AWS doesn't answer" in refusal("sagemaker:pumps", Unreachable)


def test_without_the_extra_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    assert "muster-edge[aws]" in refusal("sagemaker:pumps", Lacking)
