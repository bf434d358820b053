"""A logger's file as a source; files and web hooks as sinks."""

import asyncio
import http.server
import json
import threading
from pathlib import Path

import msgspec
import pytest

from muster_agent.base.feed_settings import CsvSource, FileSink, WebhookSink
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.files.lines import FileAnswers
from muster_agent.feeds.files.tail import CsvTags
from muster_agent.feeds.files.webhook import WebhookAnswers
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from support.plant_servers import Heard, running


def source(folder: Path, heard: Heard, **fields: object) -> CsvTags:
    tags = {"flow": {"column": "Flow"}, "temp": {"column": "T", "scale": 0.1}}
    given = {"kind": "csv", "path": "log.csv", "every_seconds": 0.01, "tags": tags} | fields
    settings = msgspec.convert(given, CsvSource)
    return CsvTags(settings, heard.inlet.of(settings.tags), place(folder))


def place(folder: Path) -> FeedPlace:
    return FeedPlace("press-7", "press", "part", "slot", folder)


def answer(risk: float, grade: str = "good") -> FeedAnswer:
    return FeedAnswer({"risk": [risk]}, grade, "", "model", "m", "1", 1_800_000_000.0)


def test_appended_lines_are_read_with_their_time_and_half_a_line_waits(tmp_path):
    async def story():
        heard, log = Heard(), tmp_path / "log.csv"
        log.write_text("at;Flow;T\n1800000000;1;10\n")
        made = source(tmp_path, heard, delimiter=";", time_column="at")
        async with running(made):
            await asyncio.sleep(0.05)  # It begins at the end of what is there.
            with log.open("a") as file:
                file.write("1800000001000;2.5;20\n2027-01-15T08:00:02Z;3.5")
                file.flush()
                first = await heard.sample("flow")
                assert (await heard.sample("temp")).value == 2.0
                file.write(";30\nnever;4;5\n")
            second = await heard.sample("flow")
            third = await heard.sample("flow")
        assert (first.value, first.at) == (2.5, 1_800_000_001.0)
        assert (second.value, second.at) == (3.5, 1_800_000_002.0)
        assert third.reason == "unreadable"

    asyncio.run(story())


def test_a_file_that_is_replaced_is_read_from_its_start(tmp_path):
    async def story():
        heard, log = Heard(), tmp_path / "log.csv"
        log.write_text("Flow,T\n1,10\n")
        made = source(tmp_path, heard, from_start=True)
        task = asyncio.create_task(made.run())
        assert (await heard.sample("flow")).value == 1.0
        (tmp_path / "fresh").write_text("T,Flow\n20,2\n")
        (tmp_path / "fresh").replace(log)
        with pytest.raises(FeedFault, match="was replaced"):
            await asyncio.wait_for(task, 60)
        async with running(made):
            assert (await heard.sample("flow")).value == 2.0

    asyncio.run(story())


def test_a_file_or_column_that_is_not_there_is_named(tmp_path):
    made = source(tmp_path, Heard())
    with pytest.raises(FeedFault, match=r"log\.csv: No such file"):
        asyncio.run(made.run())
    (tmp_path / "log.csv").write_text("flow,T\n")
    with pytest.raises(FeedFault, match=r"no column 'Flow' \(flow\); there are flow, T"):
        asyncio.run(made.run())


def test_a_full_file_of_answers_makes_way_and_two_are_kept(tmp_path):
    async def story():
        settings = FileSink(path="out/answers.jsonl", bytes_max=4096, unit="%")
        made = FileAnswers(settings, place(tmp_path))
        await made.open()
        for number in range(40):
            await made.write(answer(float(number)))
        await made.close()

    asyncio.run(story())
    files = sorted((tmp_path / "out").iterdir())
    assert [each.name for each in files] == ["answers.jsonl", "answers.jsonl.1"]
    assert all(each.stat().st_size <= 4096 for each in files)
    last = json.loads(files[0].read_text().splitlines()[-1])
    assert (last["value"], last["unit"], last["quality"]) == (39.0, "%", "good")


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; answers what it is told to."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.headers["Authorization"], json.loads(body)))  # type: ignore[attr-defined]  # of the double
        self.send_response(self.server.status)  # type: ignore[attr-defined]  # of the double
        if self.server.status == 302:  # type: ignore[attr-defined]  # of the double
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.posted, server.status = [], 200  # type: ignore[attr-defined]  # of the double
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_changes_are_posted_with_the_token_and_what_is_no_success_is_said(tmp_path, hook):
    (tmp_path / "token").write_text("secret\n")
    url = f"http://127.0.0.1:{hook.server_port}/hook"
    settings = WebhookSink(url=url, token_file="token", at_least=0.5)

    async def story():
        made = WebhookAnswers(settings, place(tmp_path))
        await made.open()
        for risk in (0.1, 0.2, 0.9, 0.8, 0.3):
            await made.write(answer(risk))
        await made.write(answer(0.3, "uncertain"))
        for status in (500, 302):
            hook.status = status
            with pytest.raises(FeedFault, match=f"POST {url}: .*{status}"):
                await made.write(answer(0.9))
        await made.close()

    asyncio.run(story())
    sent = [body["value"] for _, body in hook.posted]
    assert sent == [0.1, 0.9, 0.3, 0.3, 0.9, 0.9]
    assert {token for token, _ in hook.posted} == {"Bearer secret"}
