"""The shape of the tree, so that it can't drift unnoticed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from muster_agent.base import settings as agent_settings
from muster_hub.settings import config as hub_config
from muster_protocol.wire import limits, messages, topics
from muster_protocol.wire.directive import Directive
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Manifest
from support.trees import parsed

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("protocol/muster_protocol", "agent/muster_agent", "hub/muster_hub")
LINES_MAX = 500
PROTOCOL_PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")

RUNTIMES = {"onnxruntime", "ai_edge_litert", "tflite_runtime"}
SERVER = {"fastapi", "sqlmodel", "sqlalchemy", "pydantic", "typer", "rich", "scipy", "uvicorn"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_file_grows_past_what_one_can_read_at_once():
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources(*PACKAGES, "hub/muster_client", "tests", "bench")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}


@pytest.mark.parametrize("folder", ["protocol", "agent", "hub"])
def test_the_folders_of_the_tree_are_not_packages_themselves(folder):
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_for(package):
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(package)
        if (text := path.read_text(encoding="utf-8").strip())
        and not text.startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_import_rules_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages in memory after importing ``modules`` in a fresh interpreter."""
    script = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    script += "print('\\n'.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", script, *modules],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def supervisor_modules() -> list[str]:
    """Every module of the agent that runs in the supervisor's process."""
    child = re.compile(r"muster_agent\.(worker\.(main|serving)|__main__)$")
    names = []
    for path in sources("agent/muster_agent"):
        parts = path.relative_to(ROOT / "agent").with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if not child.search(name):
            names.append(name)
    return names


def test_the_supervisor_loads_no_inference_runtime_and_no_server():
    loaded = loaded_by(*supervisor_modules())
    assert loaded & RUNTIMES == set()
    assert loaded & SERVER == set()


def test_the_mqtt_client_is_touched_by_a_module_for_the_hub_and_another_for_the_plant():
    importers = [name for name in supervisor_modules() if imports_paho(source_of(name))]
    assert importers == ["muster_agent.feeds.mqtt.client", "muster_agent.link.connection"]


def source_of(module: str) -> str:
    path = ROOT / "agent" / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8")


def imports_paho(text: str) -> bool:
    return re.search(r"^\s*(from|import) paho", text, re.MULTILINE) is not None


def test_the_protocol_loads_nothing_but_its_own_needs():
    modules = [
        ".".join(path.relative_to(ROOT / "protocol").with_suffix("").parts)
        for path in sources("protocol/muster_protocol")
        if path.stem != "__init__"
    ]
    loaded = loaded_by(*modules)
    assert loaded & (RUNTIMES | SERVER | {"paho", "tuf", "sqlite3"}) == set()


def test_every_limit_is_explained():
    names = {name for name in vars(limits) if name.isupper()} - {"KIB", "MIB"}
    assert {name for name in names if f"`{name}`" not in PROTOCOL_PAGE} == set()


def test_every_documented_limit_exists():
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", PROTOCOL_PAGE, re.MULTILINE))
    assert documented
    assert {name for name in documented if not hasattr(limits, name)} == set()


def test_every_topic_refusal_and_signed_field_is_explained():
    leaves = {f"`muster/v1/up/<device>/{leaf}`" for leaf in topics.UP_LEAVES}
    leaves |= {f"`muster/v1/down/<device>/{leaf}`" for leaf in topics.DOWN_LEAVES}
    fields = {f"`{name}`" for kind in (Manifest, Directive) for name in kind.__struct_fields__}
    refusals = {f"`{refusal}`" for refusal in Refusal}
    kinds = {f"`{kind.__name__}`" for kind in messages._LIMIT_BYTES}
    wanted = leaves | fields | refusals | kinds
    assert {name for name in wanted if name not in PROTOCOL_PAGE} == set()


def test_every_page_links_only_to_pages_that_exist():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert links
    assert [
        f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()
    ] == []


def keys_of(kind: type, prefix: str = "") -> set[str]:
    """Dotted names of a settings struct's leaves."""
    keys: set[str] = set()
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            keys |= keys_of(field.type, f"{prefix}{field.name}.")
        else:
            keys.add(prefix + field.name)
    return keys


def documented_keys(page: str) -> set[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return set(
        re.findall(r"^\| `([a-z_.<>]+)` \|", text.split("## The directory")[0], re.MULTILINE)
    )


def test_the_hubs_page_lists_exactly_the_settings_there_are():
    assert documented_keys("hub.md") == keys_of(hub_config.HubConfig) - {"data"}


def test_the_agents_page_lists_exactly_the_settings_there_are_and_means_the_same():
    page = (ROOT / "docs" / "agent.md").read_text(encoding="utf-8")
    meanings = {item.key: item.meaning for item in agent_settings.SETTINGS}
    slots = agent_settings.SLOT_SETTINGS
    meanings |= {f"slots.<name>.{item.key}": item.meaning for item in slots}
    assert documented_keys("agent.md") == set(meanings)
    assert {key for key, text in meanings.items() if text not in page} == set()


def test_sums_are_made_where_they_can_not_overflow():
    """``storage.sums.total`` is the only sum in the database: SQLite's own fails beyond 2^63."""
    bare = [
        str(path.relative_to(ROOT))
        for path in sources("hub/muster_hub")
        if "func.sum(" in path.read_text(encoding="utf-8") and path.name != "sums.py"
    ]
    assert bare == []


def test_certificates_from_outside_are_parsed_in_one_place():
    """Elsewhere X.509 is only read from the hub's own files."""
    parsers = re.compile(r"load_(pem|der)_x509_csr")
    found = [
        str(path.relative_to(ROOT))
        for path in sources("hub/muster_hub")
        if parsers.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["hub/muster_hub/identity/parsing.py"]


NAMED_ATTACKS_MIN = 130
CONFORMANCE = ("test_trust_cli.py", "test_trust_cli_delegations.py")
"""Cases of TUF's conformance suite, one client and many repositories."""
UPDATES = re.compile(r"\b(?:assert_updates|recover)\(")
"""``recover`` ends with ``assert_updates``."""


def test_every_attack_ends_with_a_device_that_updates():
    ends_well = {}
    for path in sorted((ROOT / "tests" / "attacks").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for item in parsed(text).body:
            if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                body = ast.get_source_segment(text, item) or ""
                ends_well[f"{path.name}::{item.name}"] = bool(UPDATES.search(body))
    attacks = {name for name in ends_well if name.split("::")[0] not in CONFORMANCE}
    assert len(attacks) >= NAMED_ATTACKS_MIN
    assert [name for name in sorted(attacks) if not ends_well[name]] == []


def unexplained_sleeps(text: str) -> list[int]:
    """Lines that call ``sleep`` with no comment on them or on the line above."""
    lines = text.splitlines()
    calls = (node for node in ast.walk(parsed(text)) if isinstance(node, ast.Call))
    return [
        call.lineno
        for call in calls
        if ast.unparse(call.func) in {"sleep", "time.sleep", "asyncio.sleep"}
        and not any("#" in line for line in lines[call.lineno - 2 : call.end_lineno])
    ]


@pytest.mark.parametrize("folder", ["protocol", "agent", "hub", "tests", "bench"])
def test_what_waits_by_the_clock_says_what_for(folder):
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := unexplained_sleeps(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_sleep_without_its_reason_is_found():
    assert unexplained_sleeps("x = 1\ntime.sleep(1)\n") == [2]
    assert unexplained_sleeps("# The port is closing.\ntime.sleep(1)\n") == []
