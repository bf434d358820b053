"""From an upload to a release, with the real worker running the models."""

import io
import logging
from contextlib import ExitStack

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select

from muster_hub.audit import log
from muster_hub.errors import Conflict, Invalid, NotFound
from muster_hub.registry import bundle
from muster_hub.registry.check import CheckResult, WorkerCheck
from muster_hub.registry.release import Releases, find
from muster_hub.settings.database import sqlite_url
from muster_hub.signing import keys, roles
from muster_hub.signing.catalogue import Catalogue
from muster_hub.storage import migrate
from muster_hub.storage.blobs import BlobDamaged, Blobs
from muster_hub.storage.models import Audit, Version
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store
from muster_protocol.signals import baseline, features, learning
from muster_protocol.signals.learning import InTime
from muster_protocol.wire import manifest
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.limits import CHUNK_BYTES
from support import models as fixtures
from support import shapes

NOW = 1_800_000_000.0
ACTOR = "token:ci"


def passes(_bundle, parsed):
    """A check for tests about what comes after it."""
    return CheckResult(
        ok=True, builds=[{"runtime": build.runtime, "ok": True} for build in parsed.builds]
    )


class Registry:
    """A registry in a directory of its own."""

    def __init__(self, directory, checker, offline=None):
        self.store = Store(sqlite_url(directory / "hub.db"), Sealing(directory))
        migrate.upgrade(self.store)
        self.blobs = Blobs(directory / "blobs")
        keyring = keys.create_keyring(directory / "keys", offline)
        self.catalogue = Catalogue(directory / "tuf", keyring)
        self.catalogue.create(NOW)
        self.wakes = 0
        self.releases = Releases(
            self.store,
            self.blobs,
            self.catalogue,
            checker,
            clock=lambda: NOW,
            released=self.woken,
        )

    def woken(self):
        self.wakes += 1

    def push(self, folder) -> Version:
        encoded = (folder / "manifest.json").read_bytes()
        parsed = manifest.decode(encoded)
        with ExitStack() as stack:
            files = {
                entry.path: stack.enter_context((folder / entry.path).open("rb"))
                for entry in parsed.files
            }
            return self.releases.push(encoded, files, ACTOR, model=parsed.model)

    def release(self, folder) -> Version:
        row = self.push(folder)
        self.releases.advance(row.model, row.version)
        return self.version(row.model, row.version)

    def version(self, model="dense", version="1") -> Version:
        with self.store.read() as session:
            return find(session, model, version)


@pytest.fixture
def registry(tmp_path):
    made = Registry(tmp_path, passes)
    yield made
    made.store.close()


@pytest.fixture
def real(tmp_path):
    made = Registry(tmp_path, WorkerCheck(60))
    yield made
    made.store.close()


def folder(tmp_path, **fields):
    made = tmp_path / f"bundle-{len(list(tmp_path.glob('bundle-*')))}"
    made.mkdir()
    fixtures.write_bundle(made, **fields)
    return made


# With the device's own worker


def test_a_manifest_of_format_2_is_taken_in_its_canonical_form_alone(tmp_path, registry):
    """The hub tells by its first bytes which agents can read it."""
    directory = tmp_path / "odd"
    shapes.wave().write(directory, version="1.2.0+17")
    assert registry.release(directory).status == "published"
    shapes.wave().write(directory, version="1.2.0+18")
    path = directory / "manifest.json"
    tree = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(dict(reversed(tree.items()))))
    with pytest.raises(Invalid, match="not canonical"):
        registry.push(directory)


@pytest.mark.system
def test_a_good_version_is_run_then_signed_and_published(tmp_path, real):
    row = real.release(folder(tmp_path))
    assert row.status == "published"
    assert {build["runtime"]: build["ok"] for build in row.check["builds"]} == {
        "onnx": True,
        "tflite": True,
    }
    assert real.catalogue.is_released("dense", "1", row.manifest_sha256)
    assert real.wakes == 1


@pytest.mark.system
def test_a_model_file_that_is_no_model_is_rejected_with_the_reason(tmp_path, real):
    row = real.release(folder(tmp_path, files={"onnx": b"holiday photo"}))
    assert row.status == "rejected"
    assert row.check["reason"].startswith("onnx: load_failed")
    assert not real.catalogue.is_released("dense", "1", row.manifest_sha256)


@pytest.mark.system
def test_a_model_that_misses_its_golden_vectors_is_rejected(tmp_path, real):
    cases = np.ones((2, 4), np.float32)
    wrong = {"input:x": cases, "output:probabilities": np.zeros((2, 3), np.float32)}
    row = real.release(folder(tmp_path, golden=wrong, runtimes=("onnx",)))
    assert row.status == "rejected"
    assert "golden_mismatch" in row.check["reason"]


@pytest.mark.system
def test_a_check_that_never_ends_is_ended(tmp_path):
    made = Registry(tmp_path, WorkerCheck(0.05))
    row = made.release(folder(tmp_path, runtimes=("onnx",)))
    assert (row.status, row.check["reason"]) == ("rejected", "took longer than 0.05 s")


@pytest.mark.system
def test_a_version_is_checked_by_an_isolated_process(tmp_path):
    made = folder(tmp_path)
    parsed = manifest.decode((made / "manifest.json").read_bytes())
    found = WorkerCheck(60, "required")(made, parsed)
    assert found.ok, found.reason
    assert {build["facts"]["isolation"] for build in found.builds} <= {"full", "no_landlock"}


@pytest.mark.system
def test_a_file_of_a_bundle_is_never_imported_as_a_module(tmp_path):
    made = folder(tmp_path, runtimes=("onnx",))
    parsed = manifest.decode((made / "manifest.json").read_bytes())
    for module in ("msgspec", "argparse", "numpy"):
        (made / f"{module}.py").write_text("open('ran', 'w').close()\nraise SystemExit(3)\n")
    assert WorkerCheck(60)(made, parsed).ok
    assert not (made / "ran").exists()


# The steps around it


def test_a_version_that_failed_its_check_is_never_offered_for_signing(tmp_path):
    vault = {role: keys.generate(tmp_path / f"{role}.pem") for role in keys.OFFLINE}
    made = Registry(tmp_path, lambda *_: CheckResult(ok=False, reason="it lies"), vault)
    row = made.release(folder(tmp_path))
    assert row.status == "rejected"
    assert list(made.catalogue.pending()) == ["root", "targets"]
    made.releases.advance("dense", "1")
    assert made.version().status == "rejected"


def test_a_baseline_that_cannot_be_read_is_rejected(tmp_path, registry):
    made = tmp_path / "with-baseline"
    made.mkdir()
    parsed, _ = fixtures.write_bundle(made)
    extra = fixtures.write_file(made, "baseline.bin", b"not a baseline")
    changed = manifest.encode(
        msgspec.structs.replace(parsed, files=(*parsed.files, extra), baseline="baseline.bin")
    )
    (made / "manifest.json").write_bytes(changed)
    row = registry.release(made)
    assert row.status == "rejected"
    assert row.check["reason"].startswith("baseline.bin:")


def test_a_baseline_that_would_switch_drift_detection_off_is_rejected(tmp_path, registry):
    made = tmp_path / "of-another-model"
    made.mkdir()
    rows = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    trained = baseline.fit({"pixels": rows}, features.elements("pixels", 4))
    fixtures.write_bundle(made, trained=baseline.encode(trained))
    row = registry.release(made)
    assert row.status == "rejected"
    assert "watches a tensor 'pixels'" in row.check["reason"]


def test_a_check_tells_the_format_of_the_baseline(tmp_path, registry):
    for name in ("first", "in-time"):
        (tmp_path / name).mkdir()
    parsed, _ = fixtures.write_bundle(tmp_path / "first")
    rows = np.random.default_rng(1).normal(size=(320, 4)).astype(np.float32)
    name = parsed.inputs[0].name
    trained = learning.fit({name: rows}, features.elements(name, 4), InTime(20))
    fixtures.write_bundle(tmp_path / "in-time", trained=baseline.encode(trained))
    row = registry.release(tmp_path / "in-time")
    assert row.status == "published", row.check["reason"]
    assert row.check["baseline_format"] == baseline.FORMAT_IN_TIME


def test_without_the_release_key_a_checked_version_waits_for_signatures(tmp_path):
    vault = {role: keys.generate(tmp_path / f"{role}.pem") for role in keys.OFFLINE}
    made = Registry(tmp_path, passes, vault)
    assert made.release(folder(tmp_path)).status == "awaiting_signatures"
    sign_all(made, tmp_path)
    assert made.version().status == "published"


def sign_all(registry, vault):
    for role, draft in registry.catalogue.pending().items():
        signer = keys.load_signer(vault / f"{roles.key_role(role)}.pem")
        registry.catalogue.add_signatures(roles.add_signature(draft, signer), NOW)
    registry.releases.settle()


def test_the_same_content_again_is_the_same_version(tmp_path, registry):
    made = folder(tmp_path)
    registry.release(made)
    assert registry.push(made).status == "published"
    with registry.store.read() as session:
        assert len(session.exec(select(Version)).all()) == 1


def test_a_version_never_changes(tmp_path, registry):
    registry.release(folder(tmp_path))
    with pytest.raises(Conflict, match="a version never changes"):
        registry.push(folder(tmp_path, seed=8))


def test_a_rejected_version_may_be_pushed_anew(tmp_path):
    verdicts = [CheckResult(ok=False, reason="no"), CheckResult(ok=True)]
    made = Registry(tmp_path, lambda *_: verdicts.pop(0))
    assert made.release(folder(tmp_path)).status == "rejected"
    assert made.release(folder(tmp_path, seed=8)).status == "published"


def test_a_rejected_version_can_be_checked_once_more(tmp_path):
    verdicts = [CheckResult(ok=False, reason="no runtime"), CheckResult(ok=True)]
    made = Registry(tmp_path, lambda *_: verdicts.pop(0))
    made.release(folder(tmp_path))
    made.releases.recheck("dense", "1", ACTOR)
    made.releases.advance("dense", "1")
    assert made.version().status == "published"
    with pytest.raises(Conflict, match="published, not rejected"):
        made.releases.recheck("dense", "1", ACTOR)


def test_an_upload_that_is_not_what_its_manifest_says_is_refused(tmp_path, registry):
    made = folder(tmp_path)
    encoded = (made / "manifest.json").read_bytes()
    files = {
        entry.path: (made / entry.path).read_bytes() for entry in manifest.decode(encoded).files
    }

    def refused(given, says):
        streams = {name: io.BytesIO(data) for name, data in given.items()}
        with pytest.raises(Invalid, match=says):
            registry.releases.push(encoded, streams, ACTOR, model="dense")

    refused(files | {"model.onnx": b"altered"}, "'model.onnx' is not the file")
    refused(files | {"extra.bin": b""}, "'extra.bin' is not in the manifest")
    refused({"model.onnx": files["model.onnx"]}, "missing from the upload")
    with pytest.raises(Invalid, match="of the model 'dense', not 'other'"):
        registry.releases.push(encoded, {}, ACTOR, model="other")
    with registry.store.read() as session:
        assert session.exec(select(Version)).all() == []
        assert session.exec(select(Audit)).all() == []


def test_an_unknown_tensor_type_is_refused_by_name(tmp_path, registry):
    encoded = (folder(tmp_path) / "manifest.json").read_bytes().replace(b'"FP32"', b'"FP13"')
    with pytest.raises(ProtocolError, match="FP13"):
        registry.releases.push(encoded, {}, ACTOR, model="dense")


def test_a_hub_that_was_stopped_goes_on_with_what_it_left(tmp_path, registry):
    registry.push(folder(tmp_path))
    with registry.store.write() as session:
        find(session, "dense", "1").status = "checking"
    registry.releases.start()
    registry.releases.stop()
    # What the thread did not get to before the stop is done by the next start.
    assert registry.version().status in {"checking", "published"}
    registry.releases.advance("dense", "1")
    assert registry.version().status == "published"


def test_a_check_that_breaks_does_not_end_the_thread(tmp_path, caplog):
    made = Registry(tmp_path, passes)
    with caplog.at_level(logging.CRITICAL):
        made.releases.start()
        made.releases.submit("dense", "nobody pushed this")
        row = made.push(folder(tmp_path))
        made.releases.submit(row.model, row.version)
        made.releases.finish()
        made.releases.stop()
    assert made.version().status == "published"


def test_every_step_is_in_the_audit_log(tmp_path, registry):
    registry.release(folder(tmp_path))
    with registry.store.read() as session:
        rows = session.exec(log.in_order()).all()
    assert [(row.actor, row.action) for row in rows] == [
        (ACTOR, "version.push"),
        ("hub", "version.checked"),
        ("hub", "version.published"),
    ]
    assert set(rows[-1].detail["signed_by"]) == set(registry.catalogue.signed_by("dense")) != set()


# Blobs and bundles


def test_a_damaged_blob_is_never_handed_out(tmp_path):
    blobs = Blobs(tmp_path)
    name = blobs.put(b"weights")
    (tmp_path / name[:2] / name).write_bytes(b"weighty")
    with pytest.raises(BlobDamaged):
        blobs.read(name)
    with pytest.raises(NotFound):
        blobs.read(sha256_hex(b"absent"))
    with pytest.raises(ProtocolError):
        blobs.read("../../etc/passwd")


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 3 * CHUNK_BYTES + 1), seed=st.integers(0, 255))
def test_a_packed_file_comes_back_whole(tmp_path_factory, size, seed):
    directory = tmp_path_factory.mktemp("pack")
    data = bytes([seed]) * size
    path = directory / "model.onnx"
    path.write_bytes(data)
    (directory / "golden.npz").write_bytes(b"g")
    blobs = Blobs(directory / "blobs")
    encoded = bundle.pack(
        {"model.onnx": path, "golden.npz": directory / "golden.npz"},
        blobs.put,
        model="m", version="1", created=0,
        inputs=(manifest.Tensor("x", "FP32", (-1, 4)),),
        outputs=(manifest.Tensor("y", "FP32", (-1, 4)),),
        builds=(manifest.Build("onnx", "model.onnx", 1 << 20),),
        golden=manifest.Golden("golden.npz"),
    )  # fmt: skip
    names = list(bundle.names(encoded, blobs.read))
    assert names[0] == sha256_hex(encoded)
    assert all(blobs.has(name) for name in names)
    out = directory / "out"
    out.mkdir()
    bundle.unpack(encoded, blobs.read, out)
    assert (out / "model.onnx").read_bytes() == data
    assert (out / "manifest.json").read_bytes() == encoded
