"""What every command gets from the command line's global part: a way to the hub."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import typer

from muster_client.client import Api, Connect, connect
from muster_client.profile import resolve


@dataclass
class Session:
    """Connects when first asked, so that `--help` and local commands need no hub."""

    flags: dict[str, str | None] = field(default_factory=dict)
    profile: Path | None = None
    connect: Connect = connect
    _open: ExitStack = field(default_factory=ExitStack)
    _api: Api | None = None

    def api(self) -> Api:
        if self._api is None:
            profile = resolve(self.flags, os.environ, self.profile)
            self._api = Api(self._open.enter_context(self.connect(profile)))
        return self._api

    def close(self) -> None:
        self._open.close()


def session(context: typer.Context) -> Session:
    found = context.find_object(Session)
    assert found is not None
    return found


def api(context: typer.Context) -> Api:
    return session(context).api()
