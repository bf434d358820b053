"""The ``muster-agent`` command; says which extra is missing when its libraries are."""

import sys

from muster_protocol.streams import never_fail

_EXTRA_OF = {"paho": "agent", "cryptography": "agent", "numpy": "agent", "tuf": "agent",
             "securesystemslib": "agent"}  # fmt: skip


def agent() -> None:
    """The ``muster-agent`` command; names the extra to install when an import is missing."""
    never_fail((sys.stdout, sys.stderr))
    try:
        from muster_agent.app.cli import main  # noqa: PLC0415 - its imports are what may be missing
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA_OF:
            raise
        sys.exit(
            f"muster-agent needs {missing!r}, which is not installed: "
            f"pip install 'muster-edge[{_EXTRA_OF[missing]},onnx]' (or tflite instead of onnx)"
        )
    sys.exit(main())
