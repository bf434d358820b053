"""Write the frozen wire fixtures from today's code: ``python tests/golden/write_wire.py``.

Run it only for a change of the wire that is meant, and say in CHANGELOG.md what old devices and
hubs make of it. ``tests/protocol/test_golden_wire.py`` fails until then.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from muster_protocol.wire import directive, manifest, messages, proof  # noqa: E402 the path comes first
from wire_samples import (  # noqa: E402 the path comes first
    DIRECTIVE,
    DIRECTIVE_CONTACT,
    MANIFEST,
    MANIFEST_2,
    MESSAGES,
    PROVED,
)


def main() -> None:
    (HERE / "manifest_v1.json").write_bytes(manifest.encode(MANIFEST))
    (HERE / "manifest_v2.json").write_bytes(manifest.encode(MANIFEST_2))
    (HERE / "directive_v1.json").write_bytes(directive.encode(DIRECTIVE))
    (HERE / "directive_contact_v1.json").write_bytes(directive.encode(DIRECTIVE_CONTACT))
    (HERE / "proof_v1.bin").write_bytes(proof.statement("press-7", PROVED))
    as_hex = {name: messages.encode(message).hex() for name, message in MESSAGES.items()}
    (HERE / "messages_v1.json").write_text(json.dumps(as_hex, indent=1) + "\n")


if __name__ == "__main__":
    main()
