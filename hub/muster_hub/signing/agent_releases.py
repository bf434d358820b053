"""A release of the agent, made of its wheels and signed with the keys of the role targets."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import Signer

from muster_hub.errors import Invalid
from muster_protocol.wire import agent_release
from muster_protocol.wire.agent_release import AgentRelease, Wheel
from muster_protocol.wire.errors import ProtocolError

PART_SUFFIX = ".part"


def make(
    wheels: Sequence[Path], extras: Sequence[str], signer: Signer, out: Path, now: int
) -> AgentRelease:
    """Write the file ``out``, signed once. ``now`` is seconds since 1970. Raises Invalid, OSError.

    Of the distributions beside the agent's own there are those that ``extras`` need, for each kind
    of device that is to take it.
    """
    listed = [(_wheel(path), path) for path in sorted(wheels, key=lambda path: path.name)]
    own = [wheel for wheel, _ in listed if wheel.distribution == agent_release.DISTRIBUTION]
    if not own:
        raise Invalid(f"no wheel of {agent_release.DISTRIBUTION} is among these files")
    release = AgentRelease(
        version=own[0].version,
        issued=now,
        extras=tuple(extras),
        wheels=tuple(wheel for wheel, _ in listed),
    )
    envelope = Envelope(_checked(release), agent_release.PAYLOAD_TYPE, {})
    _write(out, envelope, signer, [path for _, path in listed])
    return release


def add_signature(file: Path, signer: Signer) -> AgentRelease:
    """Sign a release's file as it is, beside whoever has signed. Raises Invalid, OSError."""
    with file.open("rb") as opened:
        try:
            start = opened.read(len(agent_release.HEAD) + agent_release.LENGTH_BYTES)
            data = opened.read(agent_release.envelope_length(start))
            envelope = Envelope.from_dict(msgspec.json.decode(data, type=dict))
            release = agent_release.decode(envelope.payload)
        except (ProtocolError, msgspec.DecodeError, ValueError, KeyError) as error:
            raise Invalid(f"{file}: {error}") from None
        except SecureSystemsError as error:
            raise Invalid(f"{file}: not an envelope: {error}") from None
    if envelope.payload_type != agent_release.PAYLOAD_TYPE:
        raise Invalid(f"{file}: the envelope holds {envelope.payload_type[:80]!r}")
    _write(file, envelope, signer, [file], skip=len(start) + len(data))
    return release


def _wheel(path: Path) -> Wheel:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Wheel(path.name, path.stat().st_size, digest)


def _checked(release: AgentRelease) -> bytes:
    try:
        return agent_release.encode(release)
    except ProtocolError as error:
        raise Invalid(str(error)) from None


def _write(
    out: Path, envelope: Envelope, signer: Signer, parts: Sequence[Path], *, skip: int = 0
) -> None:
    envelope.sign(signer)
    part = out.with_name(out.name + PART_SUFFIX)
    with part.open("wb") as written:
        written.write(agent_release.front(msgspec.json.encode(envelope.to_dict())))
        for path in parts:
            with path.open("rb") as opened:
                opened.seek(skip)
                shutil.copyfileobj(opened, written)
    part.replace(out)
