"""What git knows of a file: the commit it is of, and what GTO's tags say of that commit.

GTO keeps a registry in tags: ``pump@v1.2.3`` registers a version, ``pump#prod#4`` gives it a stage,
``!`` takes either back, and of a stage's tags the one of the highest number holds. Neither GTO nor
DVC is needed to read them.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TAGS_MAX = 10_000
GIT_SECONDS = 30.0
_TAG = re.compile(
    r"(?:[a-z0-9-_./]+=)?(?P<artifact>[a-z0-9](?:[a-z0-9-/]*[a-z0-9])?)"
    r"(?:@(?P<version>v\d+\.\d+\.\d+[0-9A-Za-z.+-]*)|#(?P<stage>[a-z0-9](?:[a-z0-9-/]*[a-z0-9])?))"
    r"(?P<back>!?)(?:#(?P<number>\d{1,9}))?"
)


@dataclass(frozen=True)
class Registered:
    """A version of an artifact, as tags at one commit say."""

    artifact: str
    version: str = ""
    stages: tuple[str, ...] = ()


def registered(tags: Iterable[tuple[str, str]], commit: str, name: str) -> Registered | None:
    """What (tag, commit) pairs say of the artifact at ``commit``: ``name``, or the only one. Pure.

    None: nothing, or more than one artifact of another name.
    """
    newest: dict[tuple[str, str, str], tuple[int, bool, str]] = {}
    for tag, of in tags:
        parts = _TAG.fullmatch(tag)
        if parts is None:
            continue
        key = (parts["artifact"], parts["version"] or "", parts["stage"] or "")
        said = (int(parts["number"] or 0), bool(parts["back"]), of)
        newest[key] = max(newest.get(key, said), said)
    here = [key for key, (_, back, of) in newest.items() if of == commit and not back]
    artifacts = {artifact for artifact, _, _ in here}
    artifact = name if name in artifacts else artifacts.pop() if len(artifacts) == 1 else ""
    if not artifact:
        return None
    versions = [version for each, version, _ in here if each == artifact and version]
    stages = sorted(stage for each, _, stage in here if each == artifact and stage)
    return Registered(artifact, max(versions, key=_order, default=""), tuple(stages))


def commit_of(path: Path) -> str:
    """The commit checked out, if ``path`` is in it as it is; empty: not so, or no git."""
    # Not resolved: DVC may keep a link into its cache there.
    at, name = path.absolute().parent, path.name
    if _git(at, "ls-files", "--error-unmatch", "--", name) is None:
        return ""
    if _git(at, "diff", "--quiet", "--no-ext-diff", "HEAD", "--", name) is None:
        return ""
    return (_git(at, "rev-parse", "HEAD") or "").strip()


def tags_at(path: Path) -> list[tuple[str, str]]:
    """(Tag, commit) pairs of the repository that ``path`` is in."""
    form = "%(refname:strip=2) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
    listed = _git(
        path.absolute().parent,
        *("for-each-ref", f"--count={TAGS_MAX}", "--sort=-creatordate", f"--format={form}"),
        "refs/tags",
    )
    pairs = (line.rpartition(" ") for line in (listed or "").splitlines())
    return [(tag, commit) for tag, _, commit in pairs]


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says in a folder; None: it says no, or there is none."""
    # No helper that a repository's own configuration names is started.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=GIT_SECONDS,
            stdin=subprocess.DEVNULL, env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return None if done.returncode else done.stdout
