"""Sources: places outside that are looked at for new versions, by a process beside the hub."""

import importlib
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from muster_client.answers import Source
from muster_client.failures import Lacking, OperatorError, Refused, WrongUsage
from muster_client.importers.base import Found
from muster_client.resources.aliases import ModelAliases
from muster_client.resources.base import Resource
from muster_client.resources.loops import Loops
from muster_client.resources.models import NOT_FOUND, Models

CANDIDATE = "candidate"
POLL_SECONDS = 5.0
LOOPS_LOOKED_AT = 50


class Look(NamedTuple):
    """What a look at a source found."""

    source: Source
    news: bool
    """A version was pushed."""


class Sources(Resource):
    """Sources by their numbers."""

    def list(self) -> list[Source]:
        """Sources, and what the last look at each found."""
        found: list[Source] = self._api.get("/sources")
        return found

    def add(
        self, uri: str, model: str, *, every_seconds: float = 60.0,
        options: Mapping[str, Any] | None = None,
    ) -> Source:  # fmt: skip
        """Have a place looked at; ``options`` are those of packing. Raises WrongUsage."""
        _importing().importer_of(uri)
        body = {
            "uri": uri, "model": model, "every_seconds": every_seconds, "options": options or {}
        }  # fmt: skip
        found: Source = self._api.post("/sources", body)
        return found

    def remove(self, source: int) -> None:
        """Look there no more."""
        self._api.delete(f"/sources/{source}")

    def run(self, *, once: bool = False) -> Iterator[Look]:
        """Look at each source when it is due, without an end; ``once``: at each once.

        What is new is packed, pushed, gets the alias ``candidate``, and becomes the candidate of
        a loop of the model that waits for one. A source that fails says why in its ``fault``.
        """
        due: dict[int, float] = {}
        while True:
            for source in self.list():
                if time.monotonic() < due.get(source["id"], 0.0):
                    continue
                yield self._look(source)
                jitter = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
                due[source["id"]] = time.monotonic() + source["every_seconds"] * jitter
            if once:
                return
            time.sleep(POLL_SECONDS)  # until some source is due

    def _look(self, source: Source) -> Look:
        fault, version, identity = "", "", ""
        try:
            found = _importing().find(source["uri"])
            identity = found.identity
            news = identity != source["identity"]
            if news:
                version = self._pushed(source, found)
        except OperatorError as error:
            fault, news = str(error)[:1000], False
        body = {"identity": "" if fault else identity, "fault": fault}
        body["version"] = version or source["version"]
        noted: Source = self._api.post(f"/sources/{source['id']}/look", body)
        return Look(noted, news)

    def _pushed(self, source: Source, found: Found) -> str:
        """Pack and push what stands at a source now; its version here."""
        models, model = Models(self._api), source["model"]
        wanted = found.version
        held = self._held(models, model, wanted) if wanted else ""
        if held and held == found.origin.source:
            version = wanted
        else:
            with tempfile.TemporaryDirectory(prefix="muster-source-") as folder:
                said = {**source["options"], "name": model}
                said["version"] = wanted if wanted and not held else models.next_version(model)
                packed = _importing().import_model(
                    source["uri"], found=found, out=Path(folder) / "bundle", **said
                )
                version = models.push(packed.folder)["version"]
        ModelAliases(self._api).set(model, CANDIDATE, version, reason=found.identity)
        for loop in Loops(self._api).list(LOOPS_LOOKED_AT):
            if loop["model"] == model and loop["state"] == "training" and not loop["version"]:
                with suppress(Refused):
                    Loops(self._api).candidate(loop["id"], version)
        return version

    def _held(self, models: Models, model: str, version: str) -> str:
        """Where a version that the hub has came from; empty: it has none of that name."""
        try:
            return str(models.show(model, version)["lineage"].get("source") or "elsewhere")
        except Refused as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return ""


def _importing() -> ModuleType:
    """What finds and packs: of the extra ``pack``. Raises Lacking."""
    try:
        return importlib.import_module("muster_client.importers.importing")
    except ModuleNotFoundError as error:
        raise Lacking("looking at sources", error.name or "", "pack") from None


def seconds_of(text: str) -> float:
    """``60s``, ``5min`` or ``1h`` as seconds; raises WrongUsage."""
    for unit, length in (("min", 60.0), ("s", 1.0), ("h", 3600.0), ("d", 86_400.0)):
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdecimal():
            return float(number) * length
    raise WrongUsage(f"{text!r}: write a time as 60s, 5min, 1h or 1d")
