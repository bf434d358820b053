"""The ``[[loops]]`` part of hub.toml: for which models drift leads to retraining, and how."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster_protocol.wire.bounds import Name

LoopState = Literal[
    "wanted", "training", "checking", "signing", "rollout", "closed", "failed", "abandoned"
]
ENDED: tuple[LoopState, ...] = ("closed", "failed", "abandoned")
PipelineName = Literal["webhook", "airflow2", "airflow3", "kubeflow", "sagemaker"]
"""What starts a training; each is a file in ``loop/pipelines/``."""
DAY_SECONDS = 86_400.0
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]


class LoopTerms(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model's loop. Times in seconds."""

    model: Name
    pipeline: PipelineName
    url: Annotated[str, Meta(pattern=r"^https?://.+$")]
    dag: Annotated[str, Meta(pattern=r"^[\w.-]{0,250}$")] = ""
    """The pipeline's name at Airflow and SageMaker, its ID at Kubeflow."""
    experiment: Annotated[str, Meta(pattern=r"^[\w.-]{0,250}$")] = ""
    """Kubeflow's, by its ID: there it says in whose namespace the run is."""
    user: str = ""
    """Airflow's, whose password is in ``secret_file``, or a token without one; an access key's ID
    at SageMaker."""
    secret_file: str = ""
    """Relative to the hub's directory. Empty: Kubeflow is asked without a token, SageMaker by
    what AWS's library finds in the hub's environment."""
    approval: bool = True
    """Somebody must agree before a training starts."""
    drift_devices: Annotated[int, Meta(ge=1)] = 1
    drift_after_seconds: NotNegative = 3600.0
    cooldown_seconds: NotNegative = 7 * DAY_SECONDS
    runs_per_30_days: Annotated[int, Meta(ge=1, le=1000)] = 4
    approval_seconds: Positive = 7 * DAY_SECONDS
    training_seconds: Positive = DAY_SECONDS
    checking_seconds: Positive = 6 * 3600.0
    signing_seconds: Positive = 14 * DAY_SECONDS
    rollout_seconds: Positive = 30 * DAY_SECONDS
