"""Errors that cross the protocol, and the names under which a device refuses something."""

from enum import StrEnum


class MusterError(Exception):
    """Base of every error Muster raises on purpose. The message says what, where and what to do."""


class ProtocolError(MusterError, ValueError):
    """A message, manifest or directive does not follow the protocol."""


class LimitError(ProtocolError):
    """A value is larger than a named limit allows."""


class Refusal(StrEnum):
    """Why a device refused or rolled back something; part of the wire protocol."""

    BAD_SIGNATURE = "bad_signature"
    WRONG_DEVICE = "wrong_device"
    STALE_GENERATION = "stale_generation"
    STALE_EPOCH = "stale_epoch"
    EXPIRED = "expired"
    MALFORMED = "malformed"
    UNKNOWN_FORMAT = "unknown_format"
    TOO_LARGE = "too_large"
    METADATA_ROLLBACK = "metadata_rollback"
    METADATA_EXPIRED = "metadata_expired"
    METADATA_INVALID = "metadata_invalid"
    METADATA_MISSING = "metadata_missing"
    UNSIGNED_MANIFEST = "unsigned_manifest"
    CHUNK_ALTERED = "chunk_altered"
    CHUNK_MISSING = "chunk_missing"
    FILE_MISMATCH = "file_mismatch"
    NO_RUNTIME = "no_runtime"
    NO_ISOLATION = "no_isolation"
    NO_SPACE = "no_space"
    NO_MEMORY = "no_memory"
    DEVICE_FAULT = "device_fault"
    LOAD_FAILED = "load_failed"
    TOO_SLOW = "too_slow"
    GOLDEN_MISMATCH = "golden_mismatch"
    WORKER_DIED = "worker_died"
    START_TIMEOUT = "start_timeout"
    PROBATION_CRASHED = "probation_crashed"
    PROBATION_ERRORS = "probation_errors"
    PROBATION_LATENCY = "probation_latency"
    PROBATION_OUTPUTS = "probation_outputs"
    CRASH_LOOP = "crash_loop"
    LATE_ERRORS = "late_errors"
    RESUME_LIMIT = "resume_limit"
    SUPERSEDED = "superseded"
