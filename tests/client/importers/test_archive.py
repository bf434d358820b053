"""A model's files out of an archive: only regular files of it, and never more than a bundle's."""

import gzip
import io
import tarfile

import pytest

from muster_client.failures import OperatorError, WrongUsage
from muster_client.importers import archive
from muster_client.importers.archive import extract_model


def packed(tmp_path, *members, **files):
    """An archive of ``files`` (``__`` stands for a slash, ``_`` for a dot) and odd members."""
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def odd(name, kind=tarfile.REGTYPE, **fields):
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def refusal(path, wanted="", kind=OperatorError, *, target=None):
    with pytest.raises(kind) as caught:
        extract_model(path, wanted, target or path.parent / "out", "s3://b/model.tar.gz")
    return str(caught.value)


def test_a_model_comes_with_its_data_and_without_what_else_is_there(tmp_path):
    path = packed(tmp_path, code__inference_py=b"x", m__pump_onnx=b"model", m__pump_onnx_data=b"w",
                  m__other_bin=b"y")  # fmt: skip
    model = extract_model(path, "", tmp_path / "out", "it")
    assert model.read_bytes() == b"model"
    assert sorted(each.name for each in model.parent.iterdir()) == ["pump.onnx", "pump.onnx.data"]


@pytest.mark.parametrize(
    "name", ["../evil.onnx", "/tmp/evil.onnx", "a/../../evil.onnx", "a\\b.onnx"]
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_name_that_leads_out_of_the_archive_is_no_model(tmp_path, name, kind):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = packed(inner, odd(name, kind, linkname="/etc/passwd"))
    assert "no file that ends with" in refusal(path, kind=WrongUsage)
    assert not [*tmp_path.rglob("*evil*")]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_what_is_no_regular_file_is_no_model(tmp_path, kind):
    path = packed(tmp_path, odd("pump.onnx", kind, linkname="/etc/passwd"))
    assert "no file that ends with" in refusal(path, kind=WrongUsage)


def test_a_link_of_the_models_name_does_not_lead_its_content_elsewhere(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    path = packed(tmp_path, odd("pump.onnx", tarfile.SYMTYPE, linkname=str(victim)),
                  odd("pump.onnx", size=4))  # fmt: skip
    model = extract_model(path, "", tmp_path / "out", "it")
    assert victim.read_bytes() == b"mine"
    assert not model.is_symlink()


def test_limits_hold_before_anything_is_written(tmp_path, monkeypatch):
    path = packed(tmp_path, pump_onnx=bytes(2000))
    with monkeypatch.context() as patched:
        patched.setattr(archive, "BYTES_MAX", 1000)
        assert "at most 64 of 1000 bytes" in refusal(path)
        patched.setattr(archive, "UNPACKED_BYTES_MAX", 1500)
        assert "more than 1500 bytes" in refusal(path)
        patched.setattr(archive, "MEMBERS_MAX", 0)
        assert "more than 0 files" in refusal(path)
    assert not (tmp_path / "out").exists()


def test_a_header_without_end_is_not_read_to_its_end(tmp_path):
    header = odd("x", tarfile.XHDTYPE, size=64 * archive.HEADER_BYTES_MAX)
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            file.write(bytes(archive.HEADER_BYTES_MAX))
    assert "before a file" in refusal(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", gzip.compress(b"no tar" * 1000, mtime=0)],
    ids=["nothing", "no gzip", "no tar"],
)
def test_what_is_no_archive_is_refused(tmp_path, data):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(data)
    assert "no whole .tar.gz" in refusal(path)


def test_an_archive_that_ends_early_is_refused(tmp_path):
    path = packed(tmp_path, pump_onnx=bytes(range(256)) * 4000)
    path.write_bytes(path.read_bytes()[:-200])
    assert "no whole .tar.gz" in refusal(path)


def test_of_several_models_one_is_to_be_named(tmp_path):
    path = packed(tmp_path, a_onnx=b"a", b_onnx=b"b")
    assert "which of a.onnx, b.onnx" in refusal(path, kind=WrongUsage)
    assert "no c.onnx in it" in refusal(path, "c.onnx", WrongUsage)
    assert extract_model(path, "b.onnx", tmp_path / "out", "it").read_bytes() == b"b"
