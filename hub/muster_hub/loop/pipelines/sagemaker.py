"""SageMaker Pipelines: an execution by AWS's own library, under a token that tells a repeat."""

import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from muster_hub.loop.decide import RunState
from muster_hub.loop.pipelines import rest
from muster_hub.loop.pipelines.base import Order, PipelineFault, Run
from muster_hub.settings.loop import LoopTerms

STATES: Mapping[str, RunState] = {
    "Executing": "running", "Stopping": "running", "Stopped": "failed", "Failed": "failed",
    "Succeeded": "succeeded",
}  # fmt: skip
PARAMETERS = {"MusterLoop": "loop", "MusterModel": "model", "MusterCandidate": "candidate"}
"""What the pipeline declares as strings; one of SageMaker's holds 1024 characters at most."""
PASSING = frozenset({"ThrottlingException", "Throttling", "RequestLimitExceeded"})
"""Refusals that come as HTTP 400 and pass."""
_REGION = re.compile(r"^https://[\w-]*\.?sagemaker[.-](?P<region>[a-z0-9-]+)\.")


class SagemakerPipeline:
    """``dag`` is the pipeline's name, ``url`` the region's endpoint."""

    asks = True

    def lacks(self, terms: LoopTerms) -> str:
        if importlib.util.find_spec("botocore") is None:
            return "needs `pip install 'muster-edge[aws]'`"
        if bool(terms.user) != bool(terms.secret_file):
            return "needs both `user`, an access key's ID, and its `secret_file`, or neither"
        return "" if terms.dag else "needs a `dag`, the pipeline's name"

    def start(self, terms: LoopTerms, secret: str, order: Order) -> Run:
        parameters = [
            {"Name": name, "Value": str(order.body[key])} for name, key in PARAMETERS.items()
        ]
        with _faults(terms):
            answer = _client(terms, secret).start_pipeline_execution(
                PipelineName=terms.dag,
                PipelineExecutionDisplayName=order.key,
                PipelineParameters=parameters,
                ClientRequestToken=_token(order.key),
            )
        return Run(str(answer["PipelineExecutionArn"]), "running")

    def look(self, terms: LoopTerms, secret: str, run: str) -> Run:
        with _faults(terms):
            client = _client(terms, secret)
            view = client.describe_pipeline_execution(PipelineExecutionArn=run)
        return Run(run, STATES.get(str(view.get("PipelineExecutionStatus")), "running"))


PIPELINE = SagemakerPipeline()


def _token(key: str) -> str:
    """The order's key at the length that is asked for, 32 to 128 characters."""
    return f"{key}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _client(terms: LoopTerms, secret: str) -> Any:
    import botocore.session  # noqa: PLC0415 - an extra
    from botocore.config import Config  # noqa: PLC0415 - an extra

    session = botocore.session.get_session()
    named = _REGION.match(terms.url)
    pair = {"aws_access_key_id": terms.user, "aws_secret_access_key": secret}
    config = Config(
        connect_timeout=rest.TIMEOUT_SECONDS, read_timeout=rest.TIMEOUT_SECONDS,
        retries={"total_max_attempts": 1},
    )  # fmt: skip
    return session.create_client(
        "sagemaker",
        region_name=named["region"] if named else None,
        endpoint_url=terms.url,
        config=config,
        **(pair if terms.user else {}),
    )


@contextmanager
def _faults(terms: LoopTerms) -> Iterator[None]:
    """What AWS or its library says no with, as a fault; final where another attempt won't help."""
    import botocore.exceptions as known  # noqa: PLC0415 - an extra

    try:
        yield
    except known.ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        passes = error.response.get("Error", {}).get("Code") in PASSING
        final = status in rest.FINAL and not passes
        raise PipelineFault(f"{terms.url}: {error}", final=final) from None
    except (known.NoRegionError, known.ParamValidationError) as error:
        raise PipelineFault(f"{terms.url}: {error}", final=True) from None
    except known.BotoCoreError as error:
        raise PipelineFault(f"{terms.url}: {error}") from None
