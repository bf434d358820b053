"""Files that claim to be pictures: what is taken, and that every hostile one is a clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from muster_protocol.images.decoding import ImageError, decoded

PIXELS = np.random.default_rng(5).integers(0, 256, (12, 16, 3)).astype(np.uint8)


def file_of(pixels: np.ndarray = PIXELS, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_pixels_are_those_of_the_file(kind):
    np.testing.assert_array_equal(decoded(file_of(kind=kind)), PIXELS)
    np.testing.assert_array_equal(decoded(file_of(PIXELS[..., 0], kind)), PIXELS[..., 0])


def test_a_jpeg_is_near_to_what_was_seen():
    smooth = np.full((16, 16, 3), 90, np.uint8)
    np.testing.assert_allclose(decoded(file_of(smooth, "JPEG")), smooth, atol=3)


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def animation() -> bytes:
    out = io.BytesIO()
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(out, format="PNG", save_all=True, append_images=frames[1:])
    return out.getvalue()


def in_mode(mode: str, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(out, format=kind)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "no PNG, JPEG, BMP", id="nothing"),
        pytest.param(b"GIF89a" + bytes(100), "no PNG, JPEG, BMP", id="another format"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG", id="a document"),
        pytest.param(file_of()[:200], "no PNG, JPEG, BMP that can be read", id="cut"),
        pytest.param(png(60_000, 60_000), "no PNG", id="a bomb by its head"),
        pytest.param(png(8_000, 8_000), "8000×8000 pixels, the limit is 32000000", id="large"),
        pytest.param(png(5_000, 5_000), "no PNG", id="a head without pixels"),
        pytest.param(animation(), "2 frames", id="moving"),
        pytest.param(in_mode("RGBA"), "mode RGBA", id="transparent"),
        pytest.param(in_mode("P"), "mode P", id="palette"),
        pytest.param(in_mode("1"), "mode 1", id="two colours"),
        pytest.param(in_mode("CMYK", "JPEG"), "mode CMYK", id="for print"),
        pytest.param(in_mode("I;16"), "mode I;16", id="16 bits"),
    ],
)
def test_what_is_no_picture_is_a_clear_error(data, words):
    with pytest.raises(ImageError, match=words) as raised:
        decoded(data)
    assert len(str(raised.value)) < 300


@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(data):
    damaged = bytearray(file_of(kind=data.draw(st.sampled_from(["PNG", "JPEG", "BMP"]))))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        pixels = decoded(bytes(damaged), pixels_max=1_000_000)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.size <= 3_000_000
