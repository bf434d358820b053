"""Enrolling devices and renewing their certificates."""

from pydantic import Base64Bytes, BaseModel, Field

from muster_hub.api.schemas.base import DAY_SECONDS, Body, View
from muster_hub.identity.enrolment import USES_MAX


class EnrolAsk(Body):
    token: str = Field(max_length=256, examples=["9f86d081884c7d65.c2VjcmV0.3a7b…"])
    csr_pem: str = Field(
        max_length=8192, examples=["-----BEGIN CERTIFICATE REQUEST-----\n…"],
        description="Signed by a P-256 key; its common name is the device id, or empty.",
    )  # fmt: skip
    facts: View = Field(default={}, examples=[{"agent_version": "0.1.0", "machine": "aarch64"}])
    labels: dict[str, str] = Field(
        default={}, examples=[{"line": "2"}],
        description="What the device says of itself, where its token leaves that to it.",
    )  # fmt: skip


class RenewAsk(Body):
    certificate_pem: str = Field(max_length=8192, examples=["-----BEGIN CERTIFICATE-----\n…"])
    csr_pem: str = Field(max_length=8192, examples=["-----BEGIN CERTIFICATE REQUEST-----\n…"])
    signature: Base64Bytes = Field(
        max_length=512, examples=["MEUCIQ…"],
        description="ECDSA with SHA-256 by the certificate's key over the purpose and `csr_pem`.",
    )  # fmt: skip


class BrokerView(BaseModel):
    host: str = Field(examples=["hub.example"])
    port: int = Field(examples=[8883])


class EnrolAnswer(BaseModel):
    device: str = Field(examples=["cam-1"])
    certificate_pem: str = Field(examples=["-----BEGIN CERTIFICATE-----\n…"])
    ca_pem: str = Field(examples=["-----BEGIN CERTIFICATE-----\n…"])
    broker: BrokerView


class TokenAsk(Body):
    labels: dict[str, str] = Field(
        default={}, examples=[{"site": "berlin", "line": "2"}],
        description="Given to every device that enrols with the token; `?`: the device says it.",
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
