"""Models, their versions, and signatures made elsewhere."""

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from muster_hub.api.schemas.base import Body, View
from muster_hub.storage.models import Version
from muster_protocol.wire import limits, manifest


class Build(BaseModel):
    model_config = ConfigDict(extra="allow")
    runtime: str = Field(examples=["onnx"])
    ok: bool
    refusal: str | None = Field(default=None, examples=["golden_mismatch"])
    detail: str | None = None


class GateJudged(BaseModel):
    """A gate of the model's policy on this version."""

    model_config = ConfigDict(extra="allow")
    gate: str = Field(examples=["metric accuracy"])
    ok: bool
    says: str = Field(examples=["0.91 is below 0.93 (champion pump 2: 0.94)"])
    value: float | None = Field(default=None, examples=[0.91])
    bound: float | None = Field(default=None, examples=[0.93])


class Check(BaseModel):
    """What loading the builds and running their golden vectors showed."""

    ok: bool | None = Field(default=None, description="null until the check has run.")
    reason: str = Field(default="", examples=["onnx: golden_mismatch: case 3, output 'y'"])
    builds: list[Build] = []
    gates: list[GateJudged] = Field(default=[], description="How the model's policy judged it.")


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
    about: View = Field(
        default={},
        description="For whoever signs, as the file `about/request.json`: who may, and the "
        "manifests of the versions that wait.",
    )


class SignatureAsk(Body):
    metadata: str = Field(
        max_length=limits.TUF_METADATA_BYTES_MAX, examples=['{"signatures":[{…}],"signed":{…}}']
    )
