"""SageMaker and S3 as moto plays them: a registered model becomes a bundle, a loop's order a run.

moto knows no repeat of a start by its token, and each of its executions has succeeded at once:
both are tried with a stand-in of our own in `make test`.
"""

import io
import json
import tarfile

import pytest

from muster_client.importers import importing
from muster_hub.loop.pipelines.base import Order, PipelineFault
from muster_hub.loop.pipelines.sagemaker import PIPELINE
from muster_hub.settings.loop import LoopTerms
from support import models as fixtures
from support import moto_server

GROUP = "pumps"

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


@pytest.fixture
def aws(tmp_path, monkeypatch):
    """A moto server, and variables that lead there."""
    with moto_server.serving(tmp_path) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield variables["AWS_ENDPOINT_URL"]


def client(service):
    session = pytest.importorskip("botocore.session", reason="the extra aws is not installed")
    return session.get_session().create_client(service)


def test_a_registered_model_becomes_a_bundle_with_its_lineage(aws, tmp_path):
    archive = io.BytesIO()
    model = fixtures.dense_onnx(*fixtures.weights())
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("pump.onnx")
        member.size = len(model)
        tar.addfile(member, io.BytesIO(model))
    store, registry = client("s3"), client("sagemaker")
    where = {"LocationConstraint": "eu-west-1"}
    store.create_bucket(Bucket="models", CreateBucketConfiguration=where)
    store.put_object(Bucket="models", Key="pump/model.tar.gz", Body=archive.getvalue())
    report = {"multiclass_classification_metrics": {"accuracy": {"value": 0.97}}}
    store.put_object(Bucket="models", Key="pump/quality.json", Body=json.dumps(report).encode())
    registry.create_model_package_group(
        ModelPackageGroupName=GROUP, ModelPackageGroupDescription="pumps"
    )
    quality = {"ContentType": "application/json", "S3Uri": "s3://models/pump/quality.json"}
    for status in ("Approved", "PendingManualApproval"):
        registry.create_model_package(
            ModelPackageGroupName=GROUP, ModelApprovalStatus=status,
            ModelPackageDescription="a pump's faults",
            MetadataProperties={"CommitId": "4f2a91c"},
            ModelMetrics={"ModelQuality": {"Statistics": quality}},
            InferenceSpecification={
                "Containers": [{"Image": "i", "ModelDataUrl": "s3://models/pump/model.tar.gz"}],
                "SupportedContentTypes": ["text/csv"], "SupportedResponseMIMETypes": ["text/csv"],
            },
        )  # fmt: skip
    made = importing.import_model(
        f"sagemaker:{GROUP}", out=tmp_path / "bundle", cache=tmp_path / "cache"
    )
    assert (made.manifest.model, made.manifest.version) == (GROUP, "1")
    assert made.manifest.lineage.metrics == {"accuracy": 0.97}
    assert made.manifest.lineage.commit == "4f2a91c"
    assert importing.find(f"sagemaker:{GROUP}@2").version == "2"


def test_a_loops_order_becomes_an_execution(aws):
    client("sagemaker").create_pipeline(
        PipelineName="train-pump", PipelineDefinition=json.dumps({"Version": "2020-12-01"}),
        ClientRequestToken="a" * 32, RoleArn="arn:aws:iam::123456789012:role/training",
    )  # fmt: skip
    terms = LoopTerms(model="pump", pipeline="sagemaker", url=aws, dag="train-pump")
    order = Order("muster-loop-12", {"loop": 12, "model": "pump", "candidate": "https://h"}, 1.0)
    run = PIPELINE.start(terms, "", order)
    assert PIPELINE.look(terms, "", run.id).state == "succeeded"
    described = client("sagemaker").describe_pipeline_execution(PipelineExecutionArn=run.id)
    assert described["PipelineExecutionDisplayName"] == "muster-loop-12"
    missing = LoopTerms(model="pump", pipeline="sagemaker", url=aws, dag="other")
    with pytest.raises(PipelineFault) as caught:
        PIPELINE.start(missing, "", order)
    assert caught.value.final
