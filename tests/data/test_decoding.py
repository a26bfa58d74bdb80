"""Every mode and every orientation gives the same picture to `explain` and to the data sets."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sess_lightning.data.reading import PhotoError, read_annotated, read_photo

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)
# EXIF 2.3, 4.6.4 A: on which side of the upright picture the first row and the first column of the file lie.
SIDES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def corners(height=32, width=64):
    """Upright: red top left, green top right, blue bottom left, grey bottom right, in blocks that JPEG keeps."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:16, :16], pixels[:16, -16:], pixels[-16:, :16], pixels[-16:, -16:] = RED, GREEN, BLUE, GREY
    return pixels


def stored(upright, orientation):
    """The pixels as a camera stores them that was held so."""
    row_side, column_side = SIDES[orientation]
    height, width = upright.shape[:2]
    exchanged = row_side in ("left", "right")
    rows, columns = np.indices((width, height) if exchanged else (height, width))
    y, x = (columns, rows) if exchanged else (rows, columns)
    y = height - 1 - y if "bottom" in (row_side, column_side) else y
    x = width - 1 - x if "right" in (row_side, column_side) else x
    return upright[y, x]


def xmp(orientation, as_element):
    said = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if as_element else f'tiff:Orientation="{orientation}"'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {said}/></x:xmpmeta>'


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


def save(path, pixels, orientation, source="exif"):
    options = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
    if source == "exif":
        options["exif"] = exif(orientation)
    elif path.suffix == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp(orientation, as_element=False))
    Image.fromarray(pixels).save(path, **options)
    if source == "xmp" and path.suffix == ".jpg":
        add_xmp_segment(path, xmp(orientation, as_element=True))
    return path


def add_xmp_segment(path, text):
    """Put an APP1 segment behind the start of the JPEG, as Pillow writes none in its release 10.1."""
    segment = b"http://ns.adobe.com/xap/1.0/\x00" + text.encode()
    jpeg = path.read_bytes()
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:])


def add_transparent_value(path, value):
    """Put a tRNS chunk before the data of the PNG, as Pillow writes none for 16 bits in its release 10.1."""
    chunk = b"tRNS" + struct.pack(">H", value)
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:])


def pixels_of(picture):
    return picture.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("suffix", "source"), [("jpg", "exif"), ("png", "exif"), ("tif", "exif"), ("jpg", "xmp"), ("png", "xmp")]
)
def test_every_orientation_is_read_upright(tmp_path, suffix, source):
    for orientation in SIDES:
        path = save(tmp_path / f"{orientation}.{suffix}", stored(corners(), orientation), orientation, source)
        photo = read_photo(path, 99)
        assert photo.stored_size == (32, 64)
        assert not photo.reduced
        assert np.abs(pixels_of(photo.picture).astype(int) - corners()).max() < 8, orientation
        reduced = read_photo(path, 16).picture
        assert reduced.shape == (3, 8, 16)
        assert reduced[:, 1, 1].argmax() == 0  # red


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize(("kind", "factor"), [(np.uint8, 40), (np.uint16, 40 * 257), (np.int32, 40 * 257)])
def test_a_grey_tiff_is_turned_once(tmp_path, kind, factor, compression):
    upright = (np.arange(6).reshape(2, 3) * factor).astype(kind)
    Image.fromarray(stored(upright, 6)).save(tmp_path / "a.tif", exif=exif(6), compression=compression)
    photo = read_photo(tmp_path / "a.tif", 99)
    assert photo.stored_size == (2, 3)
    assert torch.equal(photo.picture[0], torch.arange(6, dtype=torch.uint8).reshape(2, 3) * 40)


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (3, 1, struct.pack("<H", 0)),
        (3, 1, struct.pack("<H", 9)),
        (3, 1, struct.pack("<H", 65535)),
        (2, 2, b"6"),  # ASCII
        (7, 1, bytes([6])),  # undefined
        (11, 1, struct.pack("<f", 6.5)),
        (10, 1, struct.pack("<I", 10**6)),  # a fraction beyond the end
        (99, 1, b"6"),  # no type at all
        (3, 0, b""),
    ],
)
def test_an_orientation_that_is_none_is_no_orientation(tmp_path, kind, count, value):
    block = struct.pack("<6s2sHIHHHI4sI", b"Exif", b"II", 42, 8, 1, 0x0112, kind, count, value, 0)
    for suffix in ("jpg", "png"):
        Image.fromarray(corners()).save(tmp_path / f"a.{suffix}", exif=block)
        assert read_photo(tmp_path / f"a.{suffix}", 99).stored_size == (32, 64)
        assert read_photo(tmp_path / f"a.{suffix}", 99).picture[0, 5, 5] > 240


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_in_a_tiff(tmp_path, value):
    Image.fromarray(corners()).save(tmp_path / "a.tif", exif=exif(value))
    assert np.array_equal(pixels_of(read_photo(tmp_path / "a.tif", 99).picture), corners())


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_malformed_exif_data_do_not_hide_the_photo(tmp_path, suffix):
    """Bytes of the EXIF block are changed and cut at random: the photo is read, turned or not."""
    rng = np.random.default_rng(3)
    data = Image.Exif()
    data[0x0112], data[0x011A], data[0x010E] = 6, 72.0, "text"
    whole = data.tobytes()
    for _ in range(15):
        block = bytearray(whole)
        for place in rng.integers(6, len(block), 4):
            block[place] = rng.choice([0, 1, 2, 3, 5, 7, 9, 255])
        options = {"lossless": True} if suffix == "webp" else {}
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(corners()).save(path, exif=bytes(block[: rng.integers(7, len(block) + 1)]), **options)
        assert sorted(read_photo(path, 99).picture.shape) == [3, 32, 64]
        assert read_annotated(path).shape == (3, 32, 64)


LEVELS = np.array([[0, 1, 2, 3], [100, 128, 254, 255]])


def deep(kind):
    """A file of each deep mode that shows LEVELS, and how it is made."""
    return {
        "I;16": (Image.fromarray((LEVELS * 257).astype(np.uint16)), "png"),
        "I;16 tif": (Image.fromarray((LEVELS * 257).astype(np.uint16)), "tif"),
        "I": (Image.fromarray((LEVELS * 257).astype(np.int32)), "tif"),
        "I of 8 bits": (Image.fromarray(LEVELS.astype(np.int32)), "tif"),
        "I stretched": (Image.fromarray((LEVELS * 1000 - 70000).astype(np.int32)), "tif"),
        "F in 0..1": (Image.fromarray((LEVELS / 255).astype(np.float32)), "tif"),
        "F in 0..255": (Image.fromarray(LEVELS.astype(np.float32)), "tif"),
        "F stretched": (Image.fromarray((LEVELS * 3.0 - 9).astype(np.float32)), "tif"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["I;16", "I;16 tif", "I", "I of 8 bits", "I stretched", "F in 0..1", "F in 0..255", "F stretched"],
)
def test_deep_grey_values(tmp_path, kind):
    image, suffix = deep(kind)
    image.save(tmp_path / f"a.{suffix}")
    expected = torch.from_numpy(LEVELS).to(torch.uint8).expand(3, -1, -1)
    assert torch.equal(read_annotated(tmp_path / f"a.{suffix}"), expected)
    assert torch.equal(read_photo(tmp_path / f"a.{suffix}", 99).picture, expected)


def test_floats_that_are_not_finite(tmp_path):
    values = np.array([[0, 0.5, 1], [np.nan, -np.inf, np.inf]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_annotated(tmp_path / "a.tif")[0].tolist() == [[0, 128, 255], [0, 0, 255]]
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "b.tif")
    assert read_annotated(tmp_path / "b.tif").max() == 0


def transparent(kind):
    """Left a blue pixel, right a transparent one that hides red."""
    rgba = Image.fromarray(np.array([[[*BLUE, 255], [*RED, 0]]], np.uint8), "RGBA")
    if kind == "RGBA":
        return rgba, {}
    if kind == "LA":
        return Image.fromarray(np.array([[[29, 255], [76, 0]]], np.uint8), "LA"), {}
    if kind == "I;16":
        return Image.fromarray(np.array([[29 * 257, 76 * 257]], np.uint16)), {}
    if kind == "RGB":
        return rgba.convert("RGB"), {"transparency": RED}
    if kind == "L":
        return Image.fromarray(np.array([[29, 76]], np.uint8)), {"transparency": 76}
    if kind == "1":
        return Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), {"transparency": 255}
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([*BLUE, *RED])
    return palette, {"transparency": 1 if kind == "P" else b"\xff\x00"}


@pytest.mark.parametrize("kind", ["RGBA", "LA", "I;16", "RGB", "L", "P", "P with levels"])
def test_transparent_parts_are_white(tmp_path, kind):
    image, options = transparent(kind)
    image.save(tmp_path / "a.png", **options)
    if kind == "I;16":
        add_transparent_value(tmp_path / "a.png", 76 * 257)
    opaque = [29, 29, 29] if kind in ("LA", "I;16", "L") else list(BLUE)
    for picture in (read_annotated(tmp_path / "a.png"), read_photo(tmp_path / "a.png", 99).picture):
        assert picture[:, 0].T.tolist() == [opaque, [255, 255, 255]]


def test_half_transparent_parts_are_mixed_with_white(tmp_path):
    Image.new("RGBA", (1, 1), (0, 100, 255, 51)).save(tmp_path / "a.png")  # a fifth
    assert read_annotated(tmp_path / "a.png").flatten().tolist() == pytest.approx([204, 224, 255], abs=1)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (Image.new("CMYK", (8, 8), (255, 0, 255, 0)), "tif", [0, 255, 0]),
        (Image.new("1", (8, 8), 1), "png", [255, 255, 255]),
        (Image.new("L", (8, 8), 77), "png", [77, 77, 77]),
        (Image.new("RGB", (8, 8), (9, 8, 7)), "bmp", [9, 8, 7]),
    ],
)
def test_other_modes(tmp_path, image, suffix, expected):
    image.save(tmp_path / f"a.{suffix}")
    for picture in (read_annotated(tmp_path / f"a.{suffix}"), read_photo(tmp_path / f"a.{suffix}", 99).picture):
        assert (picture == torch.tensor(expected).view(3, 1, 1)).all()


@pytest.mark.parametrize("mode", ["1", "P"])
def test_modes_without_grey_levels_are_averaged_when_scaled_down(tmp_path, mode):
    """A fine chequerboard becomes grey."""
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)).convert(mode)
    board.save(tmp_path / "a.png")
    picture = read_photo(tmp_path / "a.png", 8).picture
    assert picture[:, 1:-1, 1:-1].float().sub(127.5).abs().max() < 20


def test_no_byte_string_raises_anything_else(tmp_path):
    """Files of each format, changed and cut at random, are read or refused in words."""
    rng = np.random.default_rng(5)
    for suffix in ("jpg", "png", "tif", "gif", "webp", "ppm"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(corners()).save(path)
        whole = path.read_bytes()
        for _ in range(15):
            data = bytearray(whole[: rng.integers(0, 2 * len(whole))])
            for place in rng.integers(0, len(data), 3) if data else ():
                data[place] = rng.integers(256)
            path.write_bytes(data)
            for read in (lambda path: read_photo(path, 99), read_annotated):
                with contextlib.suppress(PhotoError):
                    assert read(path) is not None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", b"", "the file is empty"),
        ("a.png", b"some text", "no picture"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "no picture|broken"),
        ("a" * 300 + ".png", None, "cannot be opened: File name too long"),
        ("b.png", None, "there is no such file"),
        (".", None, "only a folder"),
    ],
)
def test_what_is_no_photo_is_refused_in_words(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError, match=said):
        read_photo(tmp_path / name, 99)
