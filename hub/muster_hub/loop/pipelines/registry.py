"""The pipelines there are, one file each."""

from typing import assert_never

from muster_hub.loop.pipelines import airflow2, airflow3, kubeflow, sagemaker, webhook
from muster_hub.loop.pipelines.base import Pipeline
from muster_hub.settings.loop import PipelineName
from muster_protocol.registry import Registry


def _pipeline_of(name: PipelineName) -> Pipeline:
    match name:
        case "webhook":
            return webhook.PIPELINE
        case "airflow2":
            return airflow2.PIPELINE
        case "airflow3":
            return airflow3.PIPELINE
        case "kubeflow":
            return kubeflow.PIPELINE
        case "sagemaker":
            return sagemaker.PIPELINE
        case _:
            assert_never(name)


PIPELINES = Registry[PipelineName, Pipeline]("pipeline", PipelineName, _pipeline_of)
