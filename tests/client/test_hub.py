"""`muster_client.Hub`: the calls of the command line, from Python, against a real hub."""

import ast
import inspect
import re
import socket
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import httpx
import msgspec
import pytest
import typer
from pydantic import BaseModel

import muster_client
from muster_client import answers
from muster_client.app import COMMANDS, app
from muster_client.resources.base import Resource
from muster_client.resources.events import follow
from muster_client.resources.rollouts import Plan
from muster_client.transport import Api
from muster_hub.api import schemas
from muster_hub.api.schemas.rollouts import RolloutAsk
from muster_hub.storage.models import Alert, Device, EventRow, Model, Rollout, Version
from support.command_tree import commands
from support.hub_kit import Kit, open_kit

COMMANDS_FOLDER = Path(inspect.getfile(muster_client)).parent / "commands"
ATTRIBUTE_OF = {
    "device": "devices", "model": "models", "rollout": "rollouts", "drift": "drift",
    "alert": "alerts", "token": "tokens", "audit": "audit", "webhook": "webhooks",
    "trust": "trust", "alias": "aliases", "policy": "policies", "release": "releases",
    "source": "sources", "loop": "loops", "sampling": "sampling",
    "assignment": "assignments", "user": "users", "feed": "feed_settings",
    "agent": "agents",
}  # fmt: skip
NEED_NO_HUB = {"baseline", "model pack", "model init", "model import", "login"}
"""Groups and commands that work on files alone, or find a hub of their own."""
BEHIND_PUSH = {("models", "push"), ("models", "next_version")}
"""What ``Hub.push`` calls, which packs a model's file first."""


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    yield made
    made.close()


def hub_of(kit: Kit, role: str = "admin") -> muster_client.Hub:
    token = kit.as_(role)["Authorization"].removeprefix("Bearer ")
    return muster_client.Hub(str(kit.http.base_url), token)


def methods(kind: type) -> set[str]:
    """Public methods and properties, of the class and those it is made from."""
    return {name for name in dir(kind) if not name.startswith("_")}


def calls_of_commands() -> set[tuple[str, ...]]:
    """What the commands call of a hub: ``hub(context).devices.list`` is ``(devices, list)``."""
    found = set()
    for path in COMMANDS_FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = ast.unparse(node).partition("hub(context).")[2]
            if isinstance(node, ast.Attribute) and words.replace(".", "").isidentifier():
                found.add(tuple(words.split(".")))
    return found


def test_every_command_is_a_call_of_the_hub_by_the_same_name(kit):
    with hub_of(kit) as hub:
        for command in commands(app):
            words = command.split()
            if {words[0], command} & NEED_NO_HUB:
                continue
            target = hub
            for word in words:
                target = getattr(target, ATTRIBUTE_OF.get(word, word.replace("-", "_")))
            assert callable(target), words


def test_every_call_of_the_hub_is_one_that_a_command_makes(kit):
    offered = {("url",), ("status",), ("whoami",), ("tail",), ("compare",), ("apply",), ("push",)}
    assert methods(muster_client.Hub) == {"url", "status", "whoami", "tail", "compare",
                                          "apply", "push", "close", "from_profile"}  # fmt: skip
    with hub_of(kit) as hub:
        resources = {name: part for name, part in vars(hub).items() if isinstance(part, Resource)}
    assert set(resources) == set(ATTRIBUTE_OF.values())
    for name, part in resources.items():
        offered |= {(name, method) for method in methods(type(part))}
    assert calls_of_commands() - {(name,) for name in resources} == offered - BEHIND_PUSH


def test_commands_reach_the_hub_by_its_class_alone():
    for path in COMMANDS_FOLDER.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "muster_client.transport" not in text, path.name
        assert "httpx" not in text, path.name


def test_the_help_names_each_group_as_the_group_does():
    for name, entry in COMMANDS.items():
        found = getattr(import_module(f"muster_client.commands.{entry.module}"), entry.attribute)
        own = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
        assert own.split("\n\n")[0] == entry.help, name


def test_a_page_of_help_imports_no_command_and_no_client_of_the_network():
    script = (
        "import sys\n"
        "from muster_client.entry import main\n"
        "sys.argv = ['muster', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED ")[2].split())
    assert "typer" in loaded
    assert loaded & {"httpx", "numpy", "yaml", "muster_client.hub", "sqlmodel", "fastapi"} == set()
    assert [name for name in loaded if name.startswith("muster_client.commands.")] == []


def schemas_by_name() -> dict[str, type[BaseModel]]:
    modules = [import_module(f"{schemas.__name__}.{item.name}") for item in
               iter_modules(schemas.__path__)]  # fmt: skip
    return {
        name: kind for module in modules for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, BaseModel)
    }  # fmt: skip


def test_every_typed_answer_has_the_fields_that_the_api_documents():
    documented = schemas_by_name()
    typed = {
        name: kind for name, kind in vars(answers).items()
        if inspect.isclass(kind) and kind.__module__ == answers.__name__
    }  # fmt: skip
    assert len(typed) > 30
    for name, kind in typed.items():
        schema = documented.get(f"{name}View") or documented[name]
        required = kind.__required_keys__
        assert required == set(schema.model_fields), name


def test_a_plan_has_every_argument_that_the_api_takes():
    asked = set(RolloutAsk.model_fields) - {"model", "version"}
    assert set(typing.get_type_hints(Plan)) == asked


def test_a_list_is_read_page_by_page_as_far_as_it_is_asked_for(kit):
    names = [f"cam-{number:04d}" for number in range(450)]
    with kit.hub.store.write() as session:
        session.add_all([Device(id=name, created=kit.clock()) for name in names])
    with hub_of(kit) as hub:
        found = hub.devices.list()
        assert next(found)["id"] == "cam-0000"
        assert [item["id"] for item in hub.devices.list()] == names
        assert [item["id"] for item in hub.devices.list(limit=3)] == names[:3]
        assert hub.devices.show("cam-0001")["counts"]["inferences"] == 0


def test_what_the_hub_refuses_says_why_with_its_status_and_code(kit):
    with hub_of(kit, "viewer") as hub:
        with pytest.raises(muster_client.Refused, match="no device 'cam-9'") as missing:
            hub.devices.show("cam-9")
        with pytest.raises(muster_client.Refused) as forbidden:
            hub.devices.revoke("cam-9")
    assert (missing.value.status, missing.value.problem["code"]) == (404, "not_found")
    assert forbidden.value.status == 403


@pytest.mark.parametrize("name", ["a/../b", "?", "#x", "a b", "%2e%2e", "é"])
def test_a_name_stays_one_part_of_the_path(kit, name):
    with hub_of(kit) as hub, pytest.raises(muster_client.Refused) as caught:
        hub.devices.show(name)
    assert caught.value.status in {404, 422}


def test_a_hub_that_does_not_answer_is_unreachable():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with muster_client.Hub(url) as hub, pytest.raises(muster_client.Unreachable, match=url):
            hub.rollouts.status(1)


@pytest.mark.parametrize("url", ["", "ftp://hub", "hub.example"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(muster_client.WrongUsage, match="not an http"):
        muster_client.Hub(url)


def test_a_hub_is_found_by_a_profile_file(kit, tmp_path):
    token = kit.as_("viewer")["Authorization"].removeprefix("Bearer ")
    file = tmp_path / "operator.toml"
    file.write_text(f'hub = "{kit.http.base_url}"\ntoken = "{token}"\n')
    with muster_client.Hub.from_profile(file) as hub:
        assert hub.url == str(kit.http.base_url).rstrip("/")
        assert list(hub.models.list()) == []


def test_a_closed_hub_answers_nothing_more(kit):
    with hub_of(kit) as hub:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        hub.devices.show("cam-1")


def test_a_rollout_is_planned_started_and_watched_to_its_end(kit):
    with kit.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        session.add(Device(id="cam-1", created=1, online=True))
        session.flush()
        session.add(
            Version(
                model="digits", version="1", manifest_sha256="d1", manifest=b"{}",
                status="published", size_bytes=2046, created=1, created_by="test",
            )
        )  # fmt: skip
    with hub_of(kit) as hub:
        assert hub.rollouts.plan("digits", "1", canary=1)["devices"] == 1
        assert list(hub.rollouts.list()) == []
        number = hub.rollouts.start("digits", "1", canary=1, min_soak_seconds=0)["id"]
        assert hub.rollouts.pause(number)["state"] == "paused"
        seen = hub.rollouts.watch(number, poll_seconds=0.0)
        assert next(seen)["state"] == "paused"
        with kit.hub.store.write() as session:
            session.get_one(Rollout, number).state = "completed"
        assert [view["state"] for view in seen][-1] == "completed"


def test_a_drift_alert_comes_with_what_to_do(kit):
    detail = {"cause": "sensor", "findings": {}}
    with kit.hub.store.write() as session:
        session.add(Device(id="cam-1", created=1))
        session.flush()
        for kind in ("drift", "offline"):
            session.add(
                Alert(
                    key=f"{kind}/cam-1", device="cam-1", kind=kind, severity="warning",
                    state="open", opened=1, updated=1, title=f"{kind} of cam-1", detail=detail,
                )
            )  # fmt: skip
    with hub_of(kit) as hub:
        by_kind = {alert["kind"]: alert for alert in hub.alerts.list()}
        assert "check its sensor" in hub.drift.explain(by_kind["drift"]["id"])["advice"]
        assert by_kind["drift"]["advice"] == hub.drift.explain(by_kind["drift"]["id"])["advice"]
        assert by_kind["offline"]["advice"] == ""
        with pytest.raises(muster_client.WrongUsage, match="not about drift"):
            hub.drift.explain(by_kind["offline"]["id"])


def test_events_are_followed_as_they_happen(kit):
    with kit.hub.store.write() as session:
        session.add(Device(id="cam-1", created=1))
    stop = threading.Event()

    def send() -> None:  # The stream begins with what comes after it was opened.
        while not stop.wait(0.2):
            with kit.hub.store.write() as session:
                session.add(EventRow(device="cam-1", kind="update", received=1.0))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with hub_of(kit) as hub:
            found = next(hub.tail())
    finally:
        stop.set()
        sender.join()
    assert (found["device"], found["kind"]) == ("cam-1", "update")


def test_an_event_that_is_no_json_is_said():
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"id: 1\ndata: {not json\n\n")

    http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://hub")
    with http, pytest.raises(muster_client.OperatorError, match="no JSON"):
        next(follow(Api(http)))


def test_a_name_that_the_package_has_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Hubb'"):
        _ = muster_client.Hubb


def test_answers_are_plain_json(kit):
    with hub_of(kit) as hub:
        made = hub.tokens.make("ci", "viewer", days=1)
    assert msgspec.json.decode(msgspec.json.encode(made)) == made


def test_the_guides_python_runs_as_it_is_written(kit):
    page = (Path(__file__).resolve().parents[2] / "docs" / "operator.md").read_text()
    found = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (code,) = (each for each in found if "hub.devices.list(" in each)  # packing has its own test
    with kit.hub.store.write() as session:
        session.add(Device(id="cam-1", created=1, labels={"site": "berlin"}))
    environment = {
        "MUSTER_HUB": str(kit.http.base_url),
        "MUSTER_TOKEN": kit.as_("operator")["Authorization"].removeprefix("Bearer "),
        "XDG_CONFIG_HOME": "/nonexistent",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cam-1 offline\n404 "), done.stdout
