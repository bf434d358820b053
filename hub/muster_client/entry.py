"""The command ``muster``; it names the extra when its libraries are not installed.

Besides its own packages only the standard library is imported here.
"""

import sys

from muster_protocol.streams import never_fail

_OWN = ("muster_client", "muster_protocol")


def main() -> None:
    """Run ``muster``; exits with 2 when a library it needs isn't installed."""
    never_fail((sys.stdout, sys.stderr))
    try:
        from muster_client.app import main as run  # noqa: PLC0415 - may lack its libraries

        run()  # commands import what they need when they are called
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN:
            raise
        sys.exit(_lacks(missing))


def _lacks(missing: str) -> int:
    sys.stderr.write(
        f"muster needs {missing!r}, which is not installed: pip install 'muster-edge[cli]'\n"
    )
    return 2
