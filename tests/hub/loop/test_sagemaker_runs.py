"""A loop's training at SageMaker Pipelines, by a stand-in that speaks what AWS documents."""

import pytest

from muster_hub.loop.pipelines.base import Order, PipelineFault
from muster_hub.loop.pipelines.sagemaker import PIPELINE, STATES
from muster_hub.settings.loop import LoopTerms
from support.orchestrators import Sagemaker

pytest.importorskip("botocore", reason="the extra aws is not installed")

HOOK = "https://hub.example/api/v1/loops/12/candidate"
ALERTS = [{"title": "flow drifts"}] * 200
ORDER = Order(
    "muster-loop-12", {"loop": 12, "model": "pump", "candidate": HOOK, "alerts": ALERTS}, 1.0
)


@pytest.fixture
def sagemaker(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    server = Sagemaker()
    with server.served() as url:
        server.url = url
        yield server


def terms(sagemaker, **fields):
    usual = {"model": "pump", "pipeline": "sagemaker", "url": sagemaker.url, "dag": "train-pump",
             "user": "AKIAEXAMPLE", "secret_file": "aws.key"}  # fmt: skip
    return LoopTerms(**(usual | fields))


def test_an_execution_gets_loop_model_and_candidate_as_its_parameters(sagemaker):
    run = PIPELINE.start(terms(sagemaker), "secret", ORDER)
    (made,) = sagemaker.executions.values()
    parameters = {each["Name"]: each["Value"] for each in made["PipelineParameters"]}
    assert parameters == {"MusterLoop": "12", "MusterModel": "pump", "MusterCandidate": HOOK}
    assert made["PipelineExecutionDisplayName"] == "muster-loop-12"
    assert run.id == made["PipelineExecutionArn"]
    assert run.state == "running"


def test_a_repeat_is_told_by_its_token_and_starts_no_second_execution(sagemaker):
    first = PIPELINE.start(terms(sagemaker), "secret", ORDER)
    assert PIPELINE.start(terms(sagemaker), "secret", ORDER) == first
    (token,) = sagemaker.executions
    assert 32 <= len(token) <= 128


@pytest.mark.parametrize(("state", "means"), [*STATES.items(), ("New", "running")])
def test_each_state_that_is_documented_means_something(sagemaker, state, means):
    run = PIPELINE.start(terms(sagemaker), "secret", ORDER).id
    (made,) = sagemaker.executions.values()
    made["PipelineExecutionStatus"] = state
    assert PIPELINE.look(terms(sagemaker), "secret", run).state == means


def test_a_pipeline_that_is_not_there_is_final_and_a_throttled_start_is_not(sagemaker):
    with pytest.raises(PipelineFault, match="doesn't exist") as caught:
        PIPELINE.start(terms(sagemaker, dag="other"), "secret", ORDER)
    assert caught.value.final
    for refusal, final in [((400, "ThrottlingException"), False), ((500, "Internal"), False),
                           ((403, "AccessDeniedException"), True)]:  # fmt: skip
        sagemaker.refuses = refusal
        with pytest.raises(PipelineFault) as caught:
            PIPELINE.start(terms(sagemaker), "secret", ORDER)
        assert caught.value.final is final


def test_a_server_that_is_not_there_is_tried_again(sagemaker):
    with pytest.raises(PipelineFault, match="Could not connect") as caught:
        PIPELINE.start(terms(sagemaker, url="http://127.0.0.1:9"), "secret", ORDER)
    assert not caught.value.final


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        ({"user": "", "secret_file": ""}, ""),
        ({"user": ""}, "or neither"),
        ({"secret_file": ""}, "or neither"),
        ({"dag": ""}, "needs a `dag`"),
    ],
)
def test_what_a_loop_still_needs_is_said(sagemaker, fields, words):
    lacks = PIPELINE.lacks(terms(sagemaker, **fields))
    assert words in lacks
    assert bool(lacks) == bool(words)
