"""Both readers give every kind of picture file the same 8 bits, or reject it with its reason."""

import csv
import io
import re
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from packaging.version import Version
from PIL import Image, ImageCms, PngImagePlugin, features

from domains.images import files, scored_files
from domains.images.dataset.decode import decode
from domains.images.dataset.read import read_pictures
from domains.images.pixels import to_pil
from graft.errors import GraftError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 4), np.uint8)
GREY[0, :2] = 0, 255
COLOUR = RNG.integers(0, 256, (6, 4, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (6, 4), np.uint8)


def on_white(values: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = alpha[..., None] / 255
    return (values.reshape(6, 4, -1) * share + 255 * (1 - share)).round().astype(np.uint8)


def tiff(values: NDArray[Any], order: str = "<", zero_is_black: bool = True, bits: "int | None" = None) -> bytes:
    """A TIFF file of one strip, as microscopes and geographers write them."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:  # two pixels in three bytes
        pairs = values.astype(int).reshape(-1, 2)
        data = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in pairs.tolist())
    height, width = values.shape
    size = bits or values.dtype.itemsize * 8
    tags = [(256, width), (257, height), (258, size), (259, 1), (262, int(zero_is_black)), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data)), (339, kind)]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data) + len(data) % 2)
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    return head + data + b"\0" * (len(data) % 2) + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4


def saved(image: Image.Image, format: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **how)
    return out.getvalue()


def with_clear_value(file: bytes, value: int) -> bytes:
    """A grey PNG of 16 bits with a clear value, which the lowest Pillow cannot write."""
    chunk = b"tRNS" + struct.pack(">H", value)
    place = file.index(b"IDAT") - 4
    return file[:place] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + file[place:]


def lab(image: Image.Image) -> Image.Image:
    found = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert found is not None
    return found


grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
rgba, la = colour.copy(), grey.convert("LA")
rgba.putalpha(Image.fromarray(ALPHA))
la.putalpha(Image.fromarray(ALPHA))
few = colour.quantize(8)
wide = GREY.astype(np.uint16)
FEW = np.asarray(few.convert("RGB"))
HIDDEN = np.where(np.asarray(few)[..., None] == 0, 255, FEW)

KINDS: dict[str, tuple[str, bytes, Any, float]] = {
    # suffix, file, what it is, how far a channel may be off
    "1": (".png", saved(grey.convert("1"), "PNG"), np.asarray(grey.convert("1")) * 255, 0),
    "L": (".png", saved(grey, "PNG"), GREY, 0),
    "L, suffix in capitals": (".PNG", saved(grey, "PNG"), GREY, 0),
    "L with a clear value": (".png", saved(grey, "PNG", transparency=0), np.where(GREY == 0, 255, GREY), 0),
    "LA": (".png", saved(la, "PNG"), on_white(GREY, ALPHA), 1),
    "LA tif": (".tif", saved(la, "TIFF"), on_white(GREY, ALPHA), 1),
    "P": (".png", saved(few, "PNG"), FEW, 0),
    "P with a clear colour": (".png", saved(few, "PNG", transparency=0), HIDDEN, 0),
    "P with half clear colours": (".png", saved(few, "PNG", transparency=b"\0" + b"\xff" * 7), HIDDEN, 0),
    "P gif": (".gif", saved(few, "GIF"), FEW, 0),
    "P gif with a clear colour": (".gif", saved(few, "GIF", transparency=0), HIDDEN, 0),
    "PA": (".tif", saved(few.convert("PA"), "TIFF"), FEW, 0),
    "RGB": (".png", saved(colour, "PNG"), COLOUR, 0),
    "RGB jfif": (".jfif", saved(colour, "JPEG", quality=100, subsampling=0), COLOUR, 6),
    "RGB bmp": (".BMP", saved(colour, "BMP"), COLOUR, 0),
    "RGB ppm": (".ppm", saved(colour, "PPM"), COLOUR, 0),
    "RGB webp": (".webp", saved(colour, "WEBP", lossless=True), COLOUR, 0),
    "RGBA": (".png", saved(rgba, "PNG"), on_white(COLOUR, ALPHA), 1),
    "RGBA tif": (".tiff", saved(rgba, "TIFF"), on_white(COLOUR, ALPHA), 1),
    "CMYK": (".tif", saved(colour.convert("CMYK"), "TIFF"), COLOUR, 0),
    "CMYK jpeg": (".jpeg", saved(colour.convert("CMYK"), "JPEG", quality=100, subsampling=0), COLOUR, 30),
    "LAB": (".tif", saved(lab(colour), "TIFF"), COLOUR, 20),
    "I;16 png": (".png", saved(Image.fromarray(wide * 257), "PNG"), GREY, 0),
    "I;16 with a clear value": (
        ".png",
        with_clear_value(saved(Image.fromarray(wide * 257), "PNG"), 0),
        np.where(GREY == 0, 255, GREY),
        0,
    ),
    "I;16 tif": (".tif", tiff(wide * 257), GREY, 0),
    "I;16B tif": (".tif", tiff(wide * 257, ">"), GREY, 0),
    "I;16 tif, 0 is white": (".tif", tiff(65535 - wide * 257, zero_is_black=False), GREY, 0),
    "I;16 of 12 bits": (".tif", tiff((wide * 4095.0 / 255).round().astype(np.uint16), bits=12), GREY, 0),
    "I, 16 bits with a sign": (".tif", tiff((wide * 32767.0 / 255).round().astype(np.int16)), GREY, 0),
    "I;16 pgm": (".pgm", b"P5 4 6 65535 " + (wide * 257).astype(">u2").tobytes(), GREY, 0),
    "pgm of 10 bits": (".pgm", b"P2 4 6 1020 " + " ".join(map(str, (wide * 4).ravel())).encode(), GREY, 1),
    "I to 255": (".tif", tiff(GREY.astype(np.int32)), GREY, 0),
    "I to 65535": (".tif", tiff(GREY.astype(np.int32) * 257), GREY, 0),
    "I to 65535, big-endian": (".tif", tiff(GREY.astype(np.int32) * 257, ">"), GREY, 0),
    "F to 1": (".tif", tiff((GREY / 255).astype(np.float32)), GREY, 0),
    "F to 1, big-endian": (".tif", tiff((GREY / 255).astype(np.float32), ">"), GREY, 0),
    "F to 255": (".tif", tiff(GREY.astype(np.float32)), GREY, 0),
    "F to 65535": (".tif", tiff((GREY * 257.0).astype(np.float32)), GREY, 0),
}
if ".pfm" in Image.registered_extensions():  # of Pillow 10.3 and newer
    KINDS["F pfm"] = (".pfm", saved(Image.fromarray((GREY / 255).astype(np.float32)), "PPM"), GREY, 0)
if Version(PIL.__version__) >= Version("10.3"):  # an older one cannot read the file that it writes
    KINDS["YCbCr"] = (".tif", saved(colour.convert("YCbCr"), "TIFF"), COLOUR, 4)
if "avif" in features.get_supported():
    KINDS["RGB avif"] = (".avif", saved(colour, "AVIF", quality=100, subsampling="4:4:4"), COLOUR, 12)


def both(folder: Path, suffix: str, content: bytes, count: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return what the reader of folders and the reader of scored tables make of several copies of a file."""
    for i in range(count):
        (folder / f"{i}{suffix}").write_bytes(content)
    with open(folder / "index.csv", "w", newline="") as table:
        csv.writer(table).writerows([["file", "rating"], *([f"{i}{suffix}", 0.5] for i in range(count))])
    scored = scored_files.read_scored(folder / "index.csv", "rating", None, None)
    assert not scored.left_out and scored.values == [0.5] * count
    return read_pictures(str(folder)).pixels, np.stack([np.asarray(each).reshape(6, 4, -1) for each in scored.images])


@pytest.mark.parametrize("kind", KINDS)
def test_mode(kind: str, tmp_path: Path) -> None:
    suffix, content, wanted, off = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, scored = both(tmp_path, suffix, content)
    assert np.array_equal(pixels, scored)
    expected = np.asarray(wanted).reshape(6, 4, -1).astype(int)
    assert pixels.shape == (3, *expected.shape)
    assert np.abs(pixels.astype(int) - expected).max() <= off


@pytest.mark.parametrize("kind", ["L", "LA", "P", "I;16 png", "F to 1", "RGBA", "CMYK"])
def test_channels_and_size(kind: str, tmp_path: Path) -> None:
    suffix, content, wanted, off = KINDS[kind]
    (tmp_path / f"a{suffix}").write_bytes(content)
    alone = np.asarray(wanted).reshape(6, 4, -1)
    image = Image.fromarray(alone if alone.shape[-1] == 3 else alone[..., 0].astype(np.uint8))
    for channels, mode in ((1, "L"), (3, "RGB")):
        found = read_pictures(str(tmp_path), channels=channels).pixels[0]
        assert np.abs(found.astype(int) - np.asarray(image.convert(mode)).reshape(6, 4, -1)).max() <= off + 1
        assert read_pictures(str(tmp_path), 8, channels).pixels.shape == (1, 8, 8, channels)


FLOAT = (GREY / 255).astype(np.float32)


def put(values: NDArray[Any], value: float) -> NDArray[Any]:
    changed = values.copy()
    changed[3, 2] = value
    return changed


NONE: dict[str, tuple[bytes, str]] = {
    "negative float": (tiff(put(FLOAT, -0.3)), "negative ones are no grey"),
    "float in [-1, 1]": (tiff(FLOAT * 2 - 1), "negative ones are no grey"),
    "NaN": (tiff(put(FLOAT, np.nan)), "not finite"),
    "infinite": (tiff(put(FLOAT, np.inf)), "not finite"),
    "large float": (tiff(put(FLOAT, 1e6)), "reach 1e.06, beyond any white"),
    "float of another unit": (tiff(put(FLOAT, 200)), "reach 200, where white is 1 in the others"),
    "negative integer": (tiff(put(GREY.astype(np.int32), -3)), "negative ones are no grey"),
    "large integer": (tiff(put(GREY.astype(np.int32), 10**6)), "reach 1e.06, beyond any white"),
    "float whose 0 is white": (tiff(FLOAT, zero_is_black=False), "its black is not defined"),
}


@pytest.mark.parametrize("kind", NONE)
def test_values_that_are_no_grey(kind: str, tmp_path: Path) -> None:
    """They are rejected by name, in the folder and in the table."""
    content, why = NONE[kind]
    for i in range(4):
        (tmp_path / f"{i}.tif").write_bytes(tiff(FLOAT))
    (tmp_path / "odd.tif").write_bytes(content)
    found = read_pictures(str(tmp_path), max_invalid_fraction=0.3)
    assert len(found.pixels) == 4 and np.array_equal(found.pixels[0, ..., 0], GREY)
    assert [name for name, _ in found.left_out] == ["odd.tif"]
    (tmp_path / "index.csv").write_text("file,rating\nodd.tif,1\n" + "".join(f"{i}.tif,1\n" for i in range(4)))
    scored = scored_files.read_scored(tmp_path / "index.csv", "rating", None, (1, 6, 4))
    assert [number for number, _ in scored.left_out] == [1] and len(scored.values) == 4
    assert re.search(why, found.left_out[0][1]) and scored.left_out[0][1] == found.left_out[0][1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff(wide), "16-bit values that reach 255 of 65535 would be black"),
        (saved(Image.fromarray(wide * 16), "PNG"), "16-bit values that reach 4080 of 65535 would be black"),
        (tiff(GREY.astype(np.int32) * 16), "32-bit integer values that reach 4080 of 65535 would be black"),
        (tiff(GREY.astype(np.float32) * 16), "float values that reach 4080 of 65535 would be black"),
        (tiff((GREY > 9).astype(np.int32)), "32-bit integer values that reach 1 of 255 would be black"),
        (tiff(FLOAT / 100), "float values that reach 0.01 of 1 would be black"),
    ],
)
def test_a_set_that_would_be_black(content: bytes, words: str, tmp_path: Path) -> None:
    """12 bits in 16 and the like: the file does not state its white, and the reader does not guess it."""
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(GraftError, match=f"1 of 1 records of .* cannot be used .1 left out: .*{words}"):
        read_pictures(str(tmp_path))


def test_dark_pictures_of_a_bright_set(tmp_path: Path) -> None:
    """One white for the whole set: a dark picture stays dark, and a black one black."""
    for i, share in enumerate((1.0, 0.01, 0.0)):
        (tmp_path / f"{i}.tif").write_bytes(tiff((GREY * share).astype(np.float32)))
    found = read_pictures(str(tmp_path))
    assert not found.left_out and found.pixels.reshape(3, -1).max(1).tolist() == [255, 3, 0]


ORIENTED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "16-bit", "P"])
def test_orientation(kind: str, orientation: int, tmp_path: Path) -> None:
    """EXIF states the rotation of the stored picture; the read picture is upright."""
    exif = Image.Exif()
    exif[274] = orientation
    image = {"16-bit": Image.fromarray(wide * 257), "P": few}.get(kind, colour)
    format = {"16-bit": "PNG", "P": "PNG"}.get(kind, kind)
    how = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    (tmp_path / "a.jpg").write_bytes(saved(image, format, exif=exif, **how))
    stored = {"16-bit": GREY[..., None], "P": FEW}.get(kind, COLOUR)
    upright = ORIENTED[orientation](stored)
    found = decode(tmp_path / "a.jpg")
    pixels = found.pixels / 257 if found.depth else found.pixels
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= (6 if kind == "JPEG" else 0)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames(format: str, tmp_path: Path) -> None:
    more = {"save_all": True, "append_images": [Image.fromarray(255 - COLOUR)]}
    first = colour if format != "GIF" else few
    lossless = {"lossless": True} if format == "WEBP" else {}
    (tmp_path / "a.tif").write_bytes(saved(first, format, **more, **lossless))
    (tmp_path / "b.png").write_bytes(saved(first, "PNG"))
    found = read_pictures(str(tmp_path))
    assert np.array_equal(found.pixels[0], found.pixels[1])
    assert found.notes == ["1 of them have several frames, of which the first one is read"]


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many pixels in a few bytes."""
    head = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    head[16:24] = struct.pack(">II", width, height)
    head[29:33] = struct.pack(">I", zlib.crc32(bytes(head[12:29])))
    return bytes(head)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bomb(50000, 50000), "decompression bomb"),
        (b"", "cannot identify"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(a) (w) file\n", "cannot identify"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot identify"),
        (saved(colour, "PNG")[:-40], "truncated|broken|not enough"),
        (saved(colour, "TIFF")[:60], "not enough|identify|truncated|read"),
    ],
    ids=["bomb", "empty", "PostScript", "SVG", "cut PNG", "cut TIFF"],
)
def test_what_is_no_picture(content: bytes, why: str, tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(saved(colour, "PNG"))
    (tmp_path / "odd.png").write_bytes(content)
    found = read_pictures(str(tmp_path), max_invalid_fraction=0.3)
    ((name, because),) = found.left_out
    assert name == "odd.png" and because.startswith("cannot be read: ") and re.search(why, because)
    assert len(found.pixels) == 3


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_damaged_files(kind: str, data: st.DataObject) -> None:
    """Any file is a picture or has one line of reason."""
    suffix, content, _, _ = KINDS[kind]
    place = data.draw(st.integers(0, len(content)))
    put = data.draw(st.binary(max_size=8))
    broken = {"cut": content[:place], "change": content[:place] + put + content[place + len(put) :]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(broken[data.draw(st.sampled_from(sorted(broken)))])
        try:
            found = decode(path)
            assert found.pixels.ndim == 3 and found.pixels.shape[-1] in (1, 3)
        except ValueError as error:
            assert str(error) and "\n" not in str(error)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_their_own(channels: int, tmp_path: Path) -> None:
    """A change of a picture in place changes neither the tensor nor another picture, and the reverse."""
    pixels = torch.from_numpy(COLOUR).permute(2, 0, 1)[None, :channels].repeat(2, 1, 1, 1).contiguous()
    made, before = to_pil(pixels), pixels.clone()
    files.write_images(made, tmp_path / "set", [0.0, 1.0])
    drawn = [*made, *scored_files.read_scored(tmp_path / "set" / "index.csv", "reward", None, None).images]
    wanted = [image.tobytes() for image in drawn]
    for image in drawn[1:]:
        image.paste(7 if channels == 1 else (7, 7, 7), (0, 0, 2, 2))
        image.putpixel((3, 3), 9 if channels == 1 else (9, 9, 9))
        image.info["mine"] = "x"
    drawn[2].thumbnail((2, 2))
    assert torch.equal(pixels, before) and drawn[0].tobytes() == wanted[0] and "mine" not in drawn[0].info
    pixels.zero_()
    assert drawn[0].tobytes() == wanted[0]


def test_tables_with_odd_rows(tmp_path: Path) -> None:
    """Rows that are short, long, empty or foreign are rejected by number; so is a label that is no number."""
    (tmp_path / "a.png").write_bytes(saved(grey, "PNG", pnginfo=None))
    rows = [
        "a.png,0.5,0",
        "a.png",
        "",
        "a.png,,0",
        ",0.5,0",
        "a.png,0.5",
        "a.png,0.5,\u00b2",
        "a.png,nan,0",
        "a.png,1,1,x",
    ]
    text = "file,rating,label\n" + "\n".join(rows) + "\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    found = scored_files.read_scored(tmp_path / "t.csv", "rating", 2, (1, 6, 4))
    assert found.values == [0.5, 1.0] and found.labels is not None and found.labels.tolist() == [0, 1]
    assert [number for number, _ in found.left_out] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("note", ["[1]", "{", "3", '{"label": 4}', "[" * 3000])
def test_notes_of_other_programs(note: str, tmp_path: Path) -> None:
    """A PNG may have a text called graft that is none of ours."""
    info = PngImagePlugin.PngInfo()
    info.add_text("graft", note)
    (tmp_path / "a.png").write_bytes(saved(grey, "PNG", pnginfo=info))
    assert decode(tmp_path / "a.png").about == ({"label": 4} if "label" in note else {})


@pytest.mark.parametrize(
    ("array", "words"),
    [
        ((FLOAT - 0.01)[None], "may be meant in .0, 1. or in .-1, 1."),
        ((GREY > 99).astype(np.uint8)[None], "reach 1 of 255 and would be black"),
        ((GREY // 16).astype(np.int64)[None], "reach 15 of 255 and would be black"),
        (GREY[None].astype(complex), "pixels of type complex128"),
    ],
)
def test_arrays_of_another_unit(array: NDArray[Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=array)
    with pytest.raises(GraftError, match=words):
        read_pictures(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "b.npz", images=GREY[None] > 99)
    assert np.array_equal(read_pictures(str(tmp_path / "b.npz")).pixels[0, ..., 0], (GREY > 99) * 255)
