"""Answers that are posted as JSON."""

import asyncio
import ssl
import urllib.error
import urllib.request

from muster_agent.base.feed_settings import WebhookSink
from muster_agent.feeds.answers import FeedAnswer, message_of
from muster_agent.feeds.sources.base import FeedFault, FeedPlace

POST_SECONDS = 10.0
ANSWER_BYTES_MAX = 4096


class WebhookAnswers:
    """Posts each answer, or only changes. Redirections are refused: they may lead anywhere."""

    def __init__(self, settings: WebhookSink, place: FeedPlace) -> None:
        self._settings = settings
        self._place = place
        self._last: tuple[bool, str, str] | None = None
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if settings.url.startswith("https:"):
            file = str(place.directory / settings.ca) if settings.ca else None
            try:
                context = ssl.create_default_context(cafile=file)
            except OSError as error:
                raise FeedFault(f"{file}: no CA file: {error}") from None
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    async def open(self) -> None:
        """Each answer makes a connection of its own."""

    async def write(self, answer: FeedAnswer) -> None:
        value = answer.value(self._settings.value)
        limit = self._settings.at_least
        state = (
            value is not None and limit is not None and value >= limit,
            answer.grade,
            answer.basis,
        )
        if limit is not None and state == self._last:
            return
        body = message_of(answer, self._settings.value, self._settings.unit)
        await asyncio.to_thread(self._post, body)
        self._last = state

    def _post(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        if self._settings.token_file:
            token = self._place.read_secret(self._settings.token_file)
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(  # noqa: S310 - the pattern of url allows http and https
            self._settings.url, data=body, headers=headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=POST_SECONDS) as answer:
                answer.read(ANSWER_BYTES_MAX)
        except (OSError, ValueError) as error:
            raise FeedFault(f"POST {self._settings.url}: {error}") from None

    async def close(self) -> None:
        """Nothing is kept open."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None
