"""SageMaker's model registry: a version of a model package group, its archive fetched from S3.

By botocore, which finds region, credentials and other endpoints as AWS's own tools do. What is
read: ListModelPackages, DescribeModelPackage, GetObject.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from muster_client.failures import Lacking, OperatorError, Unreachable, WrongUsage
from muster_client.importers.archive import PIECE_BYTES, extract_model
from muster_client.importers.base import BYTES_MAX, SMALL_BYTES_MAX, Brought, Found, lineage

PAGES_MAX = 100
"""Of a hundred versions each that are looked through."""
TRIES = 5
_PLACE = re.compile(r"(?P<group>[a-zA-Z0-9-]+)(?:@(?P<version>\d+))?(?:/(?P<file>.+))?")


@dataclass(frozen=True)
class Archived:
    """Where a version's archive is, and which file of it is meant."""

    uri: str
    file: str


class SagemakerImporter:
    """A model package group's newest approved version, or the one named."""

    form = "GROUP[@VERSION][/FILE] (AWS_REGION, and credentials as for the AWS CLI)"

    def find(self, place: str) -> Found:
        named = _PLACE.fullmatch(place)
        if named is None:
            raise WrongUsage(f"sagemaker:{place}: write sagemaker:{self.form}")
        group, number = named["group"], named["version"]
        with _refusals():
            registry = _client("sagemaker")
            summary = _version(registry, group, number)
            arn = str(summary["ModelPackageArn"])
            package = registry.describe_model_package(ModelPackageName=arn)
            metrics = _metrics(package)
        version = str(package.get("ModelPackageVersion") or summary["ModelPackageVersion"])
        uri = _archive(package, f"SageMaker: {group} {version}")
        return Found(
            arn, group, version, _lineage(arn, package, metrics), Archived(uri, named["file"] or "")
        )

    def bring(self, found: Found, room: Path) -> Brought:
        archived: Archived = found.detail
        archive = room / "model.tar.gz"
        with _refusals():
            _fetch(_client("s3"), archived.uri, archive)
        model = extract_model(archive, archived.file, room / "model", archived.uri)
        archive.unlink()
        return Brought(model, found.origin)


IMPORTER = SagemakerImporter()


def _client(service: str) -> Any:
    try:
        import botocore.session  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise Lacking("sagemaker:", "botocore", "aws") from None
    config = Config(connect_timeout=10, read_timeout=60, retries={"total_max_attempts": TRIES})
    return botocore.session.get_session().create_client(service, config=config)


@contextmanager
def _refusals() -> Iterator[None]:
    """What AWS or its library says no with, as ours."""
    try:
        import botocore.exceptions as known  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise Lacking("sagemaker:", "botocore", "aws") from None
    try:
        yield
    except (known.NoRegionError, known.NoCredentialsError, known.PartialCredentialsError) as error:
        raise WrongUsage(
            f"sagemaker: {error} Set AWS_REGION, and AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        ) from None
    except known.ClientError as error:
        raise OperatorError(f"AWS: {error}") from None
    except (known.HTTPClientError, known.ConnectionError) as error:
        raise Unreachable(f"AWS doesn't answer: {error}") from None
    except known.BotoCoreError as error:
        raise OperatorError(f"AWS: {error}") from None


def _version(registry: Any, group: str, number: str | None) -> dict[str, Any]:
    """The summary of the version named, or of the newest that is approved."""
    asked: dict[str, Any] = {
        "ModelPackageGroupName": group, "SortBy": "CreationTime", "SortOrder": "Descending",
        "MaxResults": 100,
    }  # fmt: skip
    if number is None:
        asked["ModelApprovalStatus"] = "Approved"
    for _ in range(PAGES_MAX):
        page = registry.list_model_packages(**asked)
        for summary in page["ModelPackageSummaryList"]:
            if number is None or str(summary.get("ModelPackageVersion")) == number:
                found: dict[str, Any] = summary
                return found
        if not page.get("NextToken"):
            break
        asked["NextToken"] = page["NextToken"]
    wanted = "approved version" if number is None else f"version {number}"
    advice = "; name one, GROUP@VERSION, to take it unapproved" if number is None else ""
    raise WrongUsage(f"SageMaker: no {wanted} in the model package group {group!r}{advice}")


def _archive(package: Mapping[str, Any], what: str) -> str:
    """Where the one container's ``model.tar.gz`` is."""
    containers = (package.get("InferenceSpecification") or {}).get("Containers") or []
    if len(containers) != 1:
        raise WrongUsage(f"{what}: it has {len(containers)} containers; a bundle is of one model")
    source = (containers[0].get("ModelDataSource") or {}).get("S3DataSource") or {}
    uri = str(containers[0].get("ModelDataUrl") or source.get("S3Uri") or "")
    if not uri.endswith(".tar.gz"):
        raise WrongUsage(
            f"{what}: its model is {uri or 'nowhere'}, not a .tar.gz: fetch it by `aws s3 cp "
            "--recursive` and import folder:PATH"
        )
    return uri


def _lineage(arn: str, package: Mapping[str, Any], metrics: dict[str, Any]) -> Any:
    made = package.get("MetadataProperties") or {}
    approved = str(package.get("ModelApprovalStatus") or "without approval status")
    why = package.get("ApprovalDescription")
    own = package.get("CustomerMetadataProperties") or {}
    baselines = (package.get("DriftCheckBaselines") or {}).get("ModelDataQuality") or {}
    data = (baselines.get("Statistics") or {}).get("S3Uri", "")
    notes = [
        f"SageMaker: {approved}" + (f" ({why})" if why else ""),
        *[f"{name}: {made[name]}" for name in ("Repository", "GeneratedBy", "ProjectId")
          if made.get(name)],
        ", ".join(f"{name}={value}" for name, value in sorted(own.items())),
    ]  # fmt: skip
    created = package.get("CreationTime")
    return lineage(
        source=f"sagemaker:{arn}",
        commit=str(made.get("CommitId") or ""),
        data=f"statistics {data}" if data else "",
        trained_at=created.isoformat(timespec="seconds") if created else "",
        metrics=metrics,
        notes="\n".join(note for note in notes if note),
    )


def _metrics(package: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of the model quality report, whose form is ``{kind: {name: {"value": 0.9}}}``."""
    quality = (package.get("ModelMetrics") or {}).get("ModelQuality") or {}
    uri = str((quality.get("Statistics") or {}).get("S3Uri") or "")
    if not uri.endswith(".json"):
        return {}
    bucket, key = _place(uri)
    answer = _client("s3").get_object(Bucket=bucket, Key=key)
    data = answer["Body"].read(SMALL_BYTES_MAX + 1)
    try:
        report = json.loads(data) if len(data) <= SMALL_BYTES_MAX else {}
    except ValueError:
        raise OperatorError(f"SageMaker: {uri}: its metrics are no JSON") from None
    kinds = report.values() if isinstance(report, dict) else []
    pairs = [pair for kind in kinds if isinstance(kind, dict) for pair in kind.items()]
    return {
        name: said["value"] for name, said in pairs if isinstance(said, dict) and "value" in said
    }


def _fetch(store: Any, uri: str, target: Path) -> None:
    """An object into a file, from where an earlier try ended while it is still the same object."""
    bucket, key = _place(uri)
    head = store.head_object(Bucket=bucket, Key=key)
    size, tag = int(head["ContentLength"]), str(head["ETag"])
    if size > BYTES_MAX:
        raise OperatorError(f"{uri}: {size} bytes; a bundle has at most {BYTES_MAX}")
    note = target.with_name(f"{target.name}.etag")
    if not note.is_file() or note.read_text(encoding="utf-8") != tag:
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(tag, encoding="utf-8")
    for _ in range(TRIES + 1):
        have = target.stat().st_size if target.exists() else 0
        if have == size:
            return
        part = store.get_object(Bucket=bucket, Key=key, Range=f"bytes={have}-", IfMatch=tag)
        _append(part["Body"], target, size - have)
    raise Unreachable(f"{uri}: broke off {TRIES} times; the next import goes on where it ended")


def _append(body: Any, target: Path, left_bytes: int) -> None:
    """What comes of a part. One that breaks off is asked for again, from its end."""
    import botocore.exceptions as known  # noqa: PLC0415 - an extra

    with target.open("ab") as file:
        try:
            while left_bytes > 0 and (piece := body.read(min(PIECE_BYTES, left_bytes))):
                file.write(piece)
                left_bytes -= len(piece)
        except (known.IncompleteReadError, known.ResponseStreamingError, known.ReadTimeoutError):
            return


def _place(uri: str) -> tuple[str, str]:
    split = urlsplit(uri)
    if split.scheme != "s3" or not split.netloc or not split.path.strip("/"):
        raise WrongUsage(f"SageMaker: {uri!r} is no s3://BUCKET/KEY")
    return split.netloc, split.path.removeprefix("/")
