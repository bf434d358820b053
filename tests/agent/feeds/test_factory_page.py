"""The page for plant engineers: every setting with its sentence, and every configuration loads."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec import Meta

from muster_agent.base import feed_settings
from muster_agent.base.config import load

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "factory.md").read_text(encoding="utf-8")
TABLES = {"tags", "writes", "sources", "sinks"}
KINDS = (
    feed_settings.FeedSettings,
    feed_settings.TagSettings,
    feed_settings.WriteSettings,
    *get_args(feed_settings.SourceSettings),
    *get_args(feed_settings.SinkSettings),
    *(
        kind
        for kind in vars(feed_settings).values()
        if isinstance(kind, type)
        and issubclass(kind, feed_settings.TagSettings | feed_settings.WriteSettings)
    ),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_stands_there_with_its_sentence(kind):
    meanings = {
        item.name: next(
            (
                meta.description
                for meta in get_args(item.type)
                if isinstance(meta, Meta) and meta.description
            ),
            None,
        )
        for item in msgspec.structs.fields(kind)
        if item.name not in TABLES
    }
    assert all(meanings.values())
    rows = re.findall(r"^\| `([a-z_]+)` \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert set(meanings.items()) - set(rows) == set()


CONFIGURATIONS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_every_configuration_is_one(tmp_path, text):
    (tmp_path / "agent.toml").write_text(text)
    assert load(tmp_path).settings.feeds


def test_every_rule_in_the_table_names_a_test_that_there_is():
    here = Path(__file__).parent
    known = "".join(path.read_text(encoding="utf-8") for path in here.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert {name for name in named if f"def {name}(" not in known} == set()
