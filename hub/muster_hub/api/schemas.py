"""Bodies of requests and answers, with the examples that the OpenAPI document shows."""

from typing import Annotated

import msgspec
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from muster_hub.api.views import View
from muster_hub.identity.enrolment import USES_MAX
from muster_hub.settings.roles import Role
from muster_hub.storage.models import Version
from muster_protocol.wire import limits, manifest

DAY_SECONDS = 86_400


class Body(BaseModel):
    """A request body: an unknown field is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid")


class Health(BaseModel):
    status: str = Field(examples=["ok"], description="`ok`, or `degraded` when a part isn't.")
    version: str = Field(examples=["0.1.0"])
    parts: dict[str, View] = Field(examples=[{"broker": {"ok": True, "detail": "connected"}}])


class EnrolAsk(Body):
    token: str = Field(max_length=256, examples=["9f86d081884c7d65.c2VjcmV0.3a7b…"])
    csr_pem: str = Field(
        max_length=8192, examples=["-----BEGIN CERTIFICATE REQUEST-----\n…"],
        description="Signed by a P-256 key; its common name is the device id, or empty.",
    )  # fmt: skip
    facts: View = Field(default={}, examples=[{"agent_version": "0.1.0", "machine": "aarch64"}])


class RenewAsk(Body):
    certificate_pem: str = Field(max_length=8192, examples=["-----BEGIN CERTIFICATE-----\n…"])
    csr_pem: str = Field(max_length=8192, examples=["-----BEGIN CERTIFICATE REQUEST-----\n…"])
    signature: Base64Bytes = Field(
        max_length=512, examples=["MEUCIQ…"],
        description="ECDSA with SHA-256 by the certificate's key over the purpose and `csr_pem`.",
    )  # fmt: skip


class BrokerAddress(BaseModel):
    host: str = Field(examples=["hub.example"])
    port: int = Field(examples=[8883])


class EnrolAnswer(BaseModel):
    device: str = Field(examples=["cam-1"])
    certificate_pem: str = Field(examples=["-----BEGIN CERTIFICATE-----\n…"])
    ca_pem: str = Field(examples=["-----BEGIN CERTIFICATE-----\n…"])
    broker: BrokerAddress


class TokenAsk(Body):
    labels: dict[str, str] = Field(
        default={}, examples=[{"site": "berlin", "line": "2"}],
        description="Given to every device that enrols with the token.",
    )  # fmt: skip
    uses: int = Field(default=1, ge=1, le=USES_MAX)
    expires_seconds: float = Field(default=3600, ge=1, le=90 * DAY_SECONDS)
    device: str | None = Field(
        default=None, examples=["cam-1"],
        description="The only device id it is good for; also lets a known device get a new key.",
    )  # fmt: skip
    approval: bool = Field(
        default=False,
        description="Devices get nothing to run before each is approved: for tokens in images.",
    )


class TokenAnswer(BaseModel):
    token: str = Field(examples=["9f86d081884c7d65.c2VjcmV0.3a7b…"], description="Shown once.")
    expires: float = Field(examples=[1767225600.0])


class Rebaseline(Body):
    model: str = Field(max_length=64, examples=["digits"])


class LabelsPatch(Body):
    labels: dict[str, str] = Field(
        examples=[{"site": "berlin", "line": "3"}], description="Replaces all labels."
    )


class Build(BaseModel):
    model_config = ConfigDict(extra="allow")
    runtime: str = Field(examples=["onnx"])
    ok: bool
    refusal: str | None = Field(default=None, examples=["golden_mismatch"])
    detail: str | None = None


class Check(BaseModel):
    """What loading the builds and running their golden vectors showed."""

    ok: bool | None = Field(default=None, description="null until the check has run.")
    reason: str = Field(default="", examples=["onnx: golden_mismatch: case 3, output 'y'"])
    builds: list[Build] = []


class VersionView(BaseModel):
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    status: str = Field(examples=["published"])
    manifest_sha256: str = Field(examples=["3f" * 32])
    size_bytes: int = Field(examples=[262144])
    created: float = Field(examples=[1767225600.0])
    created_by: str = Field(examples=["token:ci"])
    lineage: View = Field(examples=[{"source": "git.example/digits", "commit": "1f2e3d"}])
    check: Check

    @classmethod
    def of(cls, row: Version) -> "VersionView":
        return cls(
            model=row.model,
            version=row.version,
            status=row.status,
            manifest_sha256=row.manifest_sha256,
            size_bytes=row.size_bytes,
            created=row.created,
            created_by=row.created_by,
            lineage=row.lineage,
            check=Check.model_validate(row.check),
        )


class VersionDetail(VersionView):
    """A version with what its manifest says."""

    manifest: View

    @classmethod
    def of(cls, row: Version) -> "VersionDetail":
        parsed = manifest.decode(row.manifest)
        view = VersionView.of(row).model_dump()
        return cls(manifest=msgspec.to_builtins(parsed), **view)


class ModelView(BaseModel):
    name: str = Field(examples=["digits"])
    created: float
    versions: list[VersionView] = Field(description="The newest first.")


class SigningRequest(BaseModel):
    """Role metadata to be signed elsewhere, in this order, byte for byte."""

    roles: dict[str, str] = Field(examples=[{"model-digits": '{"signatures":[],"signed":{…}}'}])


class SignatureAsk(Body):
    metadata: str = Field(
        max_length=limits.TUF_METADATA_BYTES_MAX, examples=['{"signatures":[{…}],"signed":{…}}']
    )


class RolloutAsk(Body):
    model: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["digits"])
    version: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["2"])
    slot: str = Field(default="main", max_length=limits.NAME_CHARS_MAX, examples=["vision"])
    selector: str = Field(
        default="", max_length=1024, examples=["site=berlin,line in (1,2)"],
        description="Which devices; empty is all.",
    )  # fmt: skip
    canary: float | int = Field(
        default=0.25, ge=0, examples=[0.25],
        description="The first wave: a share below 1, or a whole number of devices.",
    )  # fmt: skip
    min_soak_seconds: float = Field(default=60, ge=0, le=30 * DAY_SECONDS)
    timeout_seconds: float = Field(default=1800, gt=0, le=30 * DAY_SECONDS)
    window_seconds: Annotated[
        float | None, Field(ge=limits.WINDOW_SECONDS_MIN, le=limits.WINDOW_SECONDS_MAX)
    ] = None
    failures_allowed: int = Field(default=0, ge=0, le=1_000_000)
    in_flight_max: int = Field(
        default=0, ge=0, le=1_000_000, description="Most devices under way at once; 0: any number."
    )
    strata: list[str] = Field(
        default=[], max_length=4, examples=[["site"]],
        description="Labels in whose groups waves are drawn in proportion.",
    )  # fmt: skip
    waves: list[View] = Field(
        default=[], max_length=16, examples=[[{"share": 0.5, "soak_seconds": 3600}]],
        description="After the canary: share, selector, name, approve, soak_seconds of each.",
    )  # fmt: skip
    holdback: int = Field(
        default=0, ge=0, le=1_000_000, description="Devices kept for last, to compare with."
    )
    budgets: list[View] = Field(
        default=[], max_length=4, examples=[[{"group_by": ["line"], "max_unavailable": 1}]],
        description="group_by, max_unavailable, min_available of each; numbers or percentages.",
    )  # fmt: skip
    windows: list[View] = Field(
        default=[], max_length=8, examples=[[{"start": "22:00", "end": "04:00"}]],
        description="When devices may swap: start, end, days, time_zone of each.",
    )  # fmt: skip
    shadow: View | None = Field(
        default=None, examples=[{"devices": 0.1, "min_seconds": 86400, "disagreed_max": 0.05}],
        description="Watch the version beside what runs before the first wave: devices, "
        "min_seconds, compared_min, disagreed_max, failed_max, looks.",
    )  # fmt: skip
    experiment: View | None = Field(
        default=None, examples=[{"share": 0.5, "match": ["line"], "min_seconds": 86400}],
        description="In place of a canary: the version (B) against what runs (A) on matched "
        "devices: share, match, min_seconds, looks. What is compared is the gate's.",
    )  # fmt: skip
    gate: View | None = Field(
        default=None, examples=[{"metrics": ["errors", "p95 latency"]}],
        description="Evidence asked for before a wave is left: metrics, looks, past_seconds, …",
    )  # fmt: skip
    approve_start: bool = Field(default=False, description="Wait for an approval at the start.")
    static: bool = Field(default=False, description="Only devices enrolled when it starts.")


class ScopeAsk(Body):
    role: Role = Field(examples=["operator"])
    models: list[Annotated[str, Field(max_length=limits.NAME_CHARS_MAX + 1)]] = Field(
        default=[], max_length=64, examples=[["digits", "pump-*"]], description="Empty: all."
    )
    selector: str = Field(
        default="", max_length=1024, examples=["site=berlin"], description="Empty: all devices."
    )


class ApiTokenAsk(ScopeAsk):
    name: str = Field(min_length=1, max_length=64, examples=["ci"])
    expires_seconds: float = Field(default=90 * DAY_SECONDS, ge=60, le=3650 * DAY_SECONDS)


class AssignmentAsk(Body):
    """What devices that match shall run in a slot, from now on and when they join later."""

    slot: str = Field(default="main", max_length=limits.NAME_CHARS_MAX, examples=["vision"])
    selector: str = Field(default="", max_length=1024, examples=["site=berlin"])
    model: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["digits"])
    version: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["2"])
    precedence: int | None = Field(
        default=None, ge=1, le=2**31 - 1,
        description="Null: before all others, or unchanged when there is one already.",
    )  # fmt: skip
    window_seconds: Annotated[
        float | None, Field(ge=limits.WINDOW_SECONDS_MIN, le=limits.WINDOW_SECONDS_MAX)
    ] = None
