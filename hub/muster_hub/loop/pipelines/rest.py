"""Asking an orchestrator by REST: bounded, never redirected, with its refusals told apart."""

from collections.abc import Mapping
from typing import Any

import httpx

from muster_hub.loop.pipelines.base import PipelineFault

TIMEOUT_SECONDS = 10.0
ANSWER_BYTES_MAX = 1 << 20
FINAL = frozenset({400, 401, 403, 404, 422})
"""Answers that another attempt won't change."""


def ask(
    method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None = None
) -> httpx.Response:
    """One request, never redirected. Raises PipelineFault when nobody answers."""
    try:
        return httpx.request(method, url, headers=dict(headers), json=body, timeout=TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        raise PipelineFault(f"{url}: {str(error) or type(error).__name__}") from None


def checked(answer: httpx.Response, system: str) -> dict[str, Any]:
    """The answer's object. Raises PipelineFault for any other; ``system`` is for its words."""
    where = f"{answer.request.method} {answer.request.url}"
    if not answer.is_success:
        says = " ".join(answer.text[:300].split())
        final = answer.status_code in FINAL
        raise PipelineFault(f"{where}: HTTP {answer.status_code}: {says}", final=final)
    try:
        found = answer.json() if len(answer.content) <= ANSWER_BYTES_MAX else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PipelineFault(f"{where}: answers like no {system}")
    return found
