"""Health and the audit log."""

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import View


class Health(BaseModel):
    status: str = Field(examples=["ok"], description="`ok`, or `degraded` when a part isn't.")
    version: str = Field(examples=["0.1.0"])
    parts: dict[str, View] = Field(examples=[{"broker": {"ok": True, "detail": "connected"}}])


class AuditView(BaseModel):
    id: int
    at: float
    actor: str = Field(examples=["token:ci"])
    action: str = Field(examples=["version.push"])
    subject: str = Field(examples=["digits/2"])
    detail: View
    previous: str = Field(description="The hash of the row before; 64 zeros in the first.")
    hash: str
    code: str = Field(description="HMAC over the hash; empty before the log was keyed.")


class AuditState(BaseModel):
    ok: bool
    archived: int = Field(description="Rows before them that were archived.")
    archived_latest: str = Field(description="The last of those rows' hash; 64 zeros when none.")
    rows: int = Field(description="Rows whose seals hold, from the first one on.")
    latest: str = Field(description="Keep it elsewhere: rows cut off the end can't be seen here.")
    fault: str = Field(description="The first row that isn't what was written; empty when none.")
    keyed_from: int | None = Field(
        description="The first row here that is keyed: from there on nobody without the hub's key "
        "can have written any. None when none is."
    )
