"""A loop's training at Kubeflow Pipelines, by a stand-in of the API that its makers document."""

import pytest

from muster_hub.loop.pipelines.base import Order, PipelineFault
from muster_hub.loop.pipelines.kubeflow import PIPELINE, STATES
from muster_hub.settings.loop import LoopTerms
from support.orchestrators import Kubeflow

ORDER = Order("muster-loop-12", {"loop": 12, "model": "pump"}, 1.0)


@pytest.fixture
def kubeflow():
    server = Kubeflow()
    with server.served() as url:
        server.url = url
        yield server


def terms(kubeflow, **fields):
    usual = {"model": "pump", "pipeline": "kubeflow", "url": f"{kubeflow.url}/", "dag": "4c7a"}
    return LoopTerms(**(usual | fields))


def test_a_run_gets_the_order_as_its_parameter_and_says_where_its_page_is(kubeflow):
    run = PIPELINE.start(terms(kubeflow), "", ORDER)
    (made,) = kubeflow.runs
    assert made["display_name"] == "muster-loop-12"
    assert made["runtime_config"]["parameters"] == {"order": {"loop": 12, "model": "pump"}}
    assert (run.id, run.state) == ("run-0", "running")
    assert run.url == f"{kubeflow.url}/#/runs/details/run-0"


def test_an_answer_that_was_lost_starts_no_second_run(kubeflow):
    kubeflow.lost = 1
    with pytest.raises(PipelineFault, match="HTTP 500") as caught:
        PIPELINE.start(terms(kubeflow), "", ORDER)
    assert not caught.value.final
    assert PIPELINE.start(terms(kubeflow), "", ORDER).id == "run-0"
    assert len(kubeflow.runs) == 1


def test_another_experiments_run_of_the_same_name_is_not_taken_for_ours(kubeflow):
    PIPELINE.start(terms(kubeflow, experiment="theirs"), "", ORDER)
    assert PIPELINE.start(terms(kubeflow, experiment="ours"), "", ORDER).id == "run-1"
    assert [run["experiment_id"] for run in kubeflow.runs] == ["theirs", "ours"]


@pytest.mark.parametrize(("state", "means"), [*STATES.items(), ("A_NEW_STATE", "running")])
def test_each_state_that_is_documented_means_something(kubeflow, state, means):
    run = PIPELINE.start(terms(kubeflow), "", ORDER).id
    kubeflow.runs[0]["state"] = state
    assert PIPELINE.look(terms(kubeflow), "", run).state == means


def test_a_token_is_sent_and_a_wrong_one_is_final(kubeflow):
    kubeflow.token = "right"
    assert PIPELINE.start(terms(kubeflow), "right", ORDER).id == "run-0"
    with pytest.raises(PipelineFault, match=r"HTTP 401: .*Unauthenticated") as caught:
        PIPELINE.start(terms(kubeflow), "wrong", ORDER)
    assert caught.value.final


def test_a_pipeline_that_is_not_there_is_final_in_its_servers_words(kubeflow):
    with pytest.raises(PipelineFault, match="pipeline 4c7b not found") as caught:
        PIPELINE.start(terms(kubeflow, dag="4c7b"), "", ORDER)
    assert caught.value.final


def test_a_loop_without_a_pipeline_is_refused_and_one_without_a_token_is_not(kubeflow):
    assert "`dag`" in PIPELINE.lacks(terms(kubeflow, dag=""))
    assert PIPELINE.lacks(terms(kubeflow)) == ""
