"""Sampling by real processes: a signed release, a policy, rows of a served model, its end."""

import json
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from chaos.ground import Ground
from muster_hub.demo import bundles, digits
from muster_hub.signing import model_signature
from muster_protocol.wire import chunks, manifest, sampling
from muster_protocol.wire.manifest import File
from muster_protocol.wire.sampling import SampledFeature, SamplingLimits

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(400)]


def push(ground: Ground, folder: Path, data: digits.Digits) -> None:
    """Version 1 with a file that lets its input be sampled."""
    bundle = bundles.release(folder, "1", digits.train(data), data, probation_seconds=1.0)
    tensor = bundle.manifest.inputs[0].name
    allowed = sampling.encode_limits(
        SamplingLimits(
            features={"pixels": SampledFeature(tensor), "first": SampledFeature(tensor, 0, 1)},
            rows_per_day=2_400,
            rows_max=10_000,
        )
    )
    (folder / sampling.FILE).write_bytes(allowed)
    listed = File(sampling.FILE, len(allowed), chunks.sha256_hex(allowed))
    files = [file for file in bundle.manifest.files if file.path != model_signature.FILE]
    made = msgspec.structs.replace(bundle.manifest, files=(*files, listed))
    path = f"/models/{bundles.MODEL}/versions"
    with ExitStack() as opened:
        opened_files = {
            entry.path: opened.enter_context((folder / entry.path).open("rb"))
            for entry in made.files
        }
        ground.api.upload(path, manifest.encode(made), opened_files)

    def published() -> bool:
        found = ground.api.get(f"{path}/1")
        assert found["status"] != "rejected", found["check"]
        return bool(found["status"] == "published")

    ground.wait("it is published", published)


def test_rows_of_a_served_model_come_home_under_a_policy_and_no_more_after_its_end(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        ground = Ground(tmp_path, 1, 7, stack)
        data = digits.load()
        push(ground, tmp_path / "first", data)
        number = ground.roll_out("1", min_soak_seconds=0, canary=0)
        ground.wait("it runs", lambda: ground.get(f"/rollouts/{number}", "state") == "completed")
        ground.feed(data, seed=3)
        asked = {"model": bundles.MODEL, "version": "1", "selector": "site=chaos",
                 "features": {"pixels": "plain", "first": "hash"}, "rows_per_day": 2_400,
                 "strata": ["random", "by_class"]}  # fmt: skip
        policy = f"/sampling/{ground.api.post('/sampling', asked)['id']}"
        ground.wait("rows come", lambda: int(ground.api.get(policy)["rows"]) >= 50)
        lines = [
            json.loads(line) for line in ground.api.raw(f"{policy}/samples.jsonl").splitlines()
        ]
        pixels = {name for name in lines[0]["features"] if name.startswith("pixels[")}
        assert len(pixels) == data.held_out_images[0].size
        assert {line["stratum"] for line in lines} == {"random", "by_class"}
        assert isinstance(lines[0]["features"]["first"], str)
        ground.api.post(f"{policy}/end", {"reason": "enough"})
        device = ground.devices[0]

        def receipts() -> list[str]:
            events = ground.api.pages("/events")
            return [item["detail"] for item in events if item["kind"] == "sampling"]

        ground.wait("the device says that it is over", lambda: bool(receipts()))
        assert "is over: withdrawn" in receipts()[0]
        assert not list((device.directory / "samples").glob("*.key"))
