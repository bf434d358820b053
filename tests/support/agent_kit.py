"""Files of agent releases for tests: wheels of nothing but their names, signed with a given key."""

from pathlib import Path

from securesystemslib.signer import Signer

from muster_hub.signing import agent_releases


def release_file(
    folder: Path, version: str, signer: Signer, now: int, payload: bytes = b""
) -> Path:
    """A signed release of two wheels, of which nobody could install the contents."""
    wheels = []
    for name, number, data in (("muster_edge", version, payload), ("numpy", "2.1.0", b"n" * 9)):
        wheel = folder / f"{name}-{number}-py3-none-any.whl"
        wheel.write_bytes(b"wheel of " + version.encode() + data)
        wheels.append(wheel)
    out = folder / f"agent-{version}.muster"
    agent_releases.make(wheels, ["agent"], signer, out, now)
    return out
