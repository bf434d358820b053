"""Waiting for what people and devices do with a version: the last step of a pipeline."""

import time
from typing import Literal, cast, get_args

from muster_client.answers import RolloutSummary, VersionDetail
from muster_client.failures import OperatorError, Rejected, WrongUsage
from muster_client.resources.base import Resource
from muster_client.resources.models import Models, reason
from muster_client.resources.rollouts import Rollouts

Goal = Literal["signed", "rolled-out"]
POLL_SECONDS = 1.0
WAIT_SECONDS = 3600.0
ROLLOUTS_LOOKED_AT = 200


class Releases(Resource):
    """A version on its way to devices."""

    def wait(
        self, model: str, version: str, *, goal: str = "signed", seconds: float = WAIT_SECONDS
    ) -> VersionDetail:
        """Block until a version is signed, or a rollout of it has completed.

        Raises Rejected when it failed its check or its gates, and OperatorError when its rollout
        ended otherwise, or when it takes longer than ``seconds``.
        """
        if goal not in get_args(Goal):
            raise WrongUsage(f"--for {goal}: say {' or '.join(get_args(Goal))}")
        until = time.monotonic() + seconds
        while True:
            found = Models(self._api).show(model, version)
            waits = self._waits(found, cast("Goal", goal))
            if not waits:
                return found
            if time.monotonic() >= until:
                raise OperatorError(f"{model} {version} after {seconds:g} s: {waits}")
            time.sleep(POLL_SECONDS)  # people sign, devices report

    def _waits(self, found: VersionDetail, goal: Goal) -> str:
        """What is still waited for; empty: nothing. Raises where nothing will come of it."""
        name = f"{found['model']} {found['version']}"
        if found["status"] == "rejected":
            raise Rejected(f"{name} was rejected: {reason(found)}", found)
        if found["status"] == "retired":
            raise OperatorError(f"{name} is retired")
        if found["status"] != "published":
            return f"it is {found['status'].replace('_', ' ')}"
        if goal == "signed":
            return ""
        rollout = self._rollout(found)
        if rollout is None:
            return "no rollout of it was started"
        if rollout["state"] == "completed":
            return ""
        words = f"rollout {rollout['id']} is {rollout['state'].replace('_', ' ')}"
        if rollout["state"] in {"stopped", "aborted", "rolled_back"}:
            raise OperatorError(f"{name}: {words}: {rollout['reason']}")
        return words

    def _rollout(self, found: VersionDetail) -> RolloutSummary | None:
        """The newest rollout of a version; None: there is none."""
        wanted = (found["model"], found["version"])
        listed = Rollouts(self._api).list(ROLLOUTS_LOOKED_AT)
        return next((item for item in listed if (item["model"], item["version"]) == wanted), None)
