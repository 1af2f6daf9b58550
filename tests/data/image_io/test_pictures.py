"""Pictures and masks of many kinds: compared pixel by pixel, or refused with an error message."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from bundle.data.image_io.pictures import is_picture, picture_size, read_image, read_label, stem_of, volume_slices

HEIGHT, WIDTH = 5, 7
RGB = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
ALPHA = np.where(np.arange(WIDTH) < 3, 255, 0).astype(np.uint8)[None].repeat(HEIGHT, 0)
WIDE = np.random.default_rng(2).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
WIDE[0, 0] = 65535
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[1:3, 1:4] = 1
MASK[3:, 4:] = 2


def over_white(pixels: np.ndarray) -> np.ndarray:
    return np.where(ALPHA[..., None] > 0, pixels, 255).astype(np.uint8)


def thrice(gray: np.ndarray) -> np.ndarray:
    return gray[..., None].repeat(3, 2)


def scaled(values: np.ndarray, top: int) -> np.ndarray:
    return np.rint(values / top * 255).astype(np.uint8)


def write_png(
    path: Path, bits: int, kind: int, rows: list[bytes], *chunks: tuple[bytes, bytes], width: int = WIDTH
) -> None:
    """PNG with bit depths that Pillow does not write; kind is 0 gray, 2 RGB, 4 gray and alpha, 6 RGBA."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]:
            file.write(struct.pack(">I", len(content)) + name + content)
            file.write(struct.pack(">I", zlib.crc32(name + content)))


def wide_rows(values: np.ndarray) -> list[bytes]:
    return [row.astype(">u2").tobytes() for row in values]


def nibbles(values: np.ndarray) -> list[bytes]:
    """Rows of 4 bits a value."""
    padded = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return [(row[::2] << 4 | row[1::2]).astype(np.uint8).tobytes() for row in padded]


def save(array: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], None]:
    """Function that writes with Pillow."""

    def write(path: Path) -> None:
        picture = Image.fromarray(array)
        picture.convert(mode or picture.mode).save(path, **options)

    return write


def tiff(array: np.ndarray, **options: Any) -> Callable[[Path], None]:
    """Function that writes with tifffile."""
    return lambda path: tifffile.imwrite(path, array, **options)


def nifti(array: np.ndarray) -> Callable[[Path], None]:
    """Function that writes NIfTI; the array has width first."""
    return lambda path: nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def png(bits: int, kind: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> Callable[[Path], None]:
    return lambda path: write_png(path, bits, kind, rows, *chunks)


def palette_picture(transparent: int | None = None) -> Callable[[Path], None]:
    """The mask with index 0 white, 1 red and 2 blue."""

    def write(path: Path) -> None:
        picture = Image.fromarray(MASK).convert("P")
        picture.putdata(MASK.ravel().tolist())
        picture.putpalette([255, 255, 255, 255, 0, 0, 0, 0, 255])
        picture.save(path, **({} if transparent is None else {"transparency": transparent}))

    return write


REPEATED = "gray repeated to RGB"
ON_WHITE = "transparent parts blended over white"
BITS_16 = "16 bits scaled to 8"
AS_RGB = {"photometric": "rgb"}
COLORS = np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8)
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
TURNED = RGB.transpose(1, 0, 2)
LOW = WIDE // 16
BYTES = scaled(WIDE, 65535)
IMAGES: dict[str, tuple[str, Callable[[Path], None], np.ndarray, str | None]] = {
    # name: suffix, function that writes it, pixels, note
    "png": (".png", save(RGB), RGB, None),
    "large suffix": (".PNG", save(RGB), RGB, None),
    "bmp": (".bmp", save(RGB), RGB, None),
    "tiff": (".tif", save(RGB), RGB, None),
    "tiff lzw": (".tiff", save(RGB, compression="tiff_lzw"), RGB, None),
    "tiff planes": (".tif", tiff(RGB.transpose(2, 0, 1), **AS_RGB, planarconfig="separate"), RGB, None),
    "tiff tiles": (".tif", tiff(RGB, **AS_RGB, tile=(16, 16), compression="zlib"), RGB, None),
    "nifti": (".nii", nifti(TURNED), RGB, None),
    "nifti packed": (".nii.gz", nifti(TURNED), RGB, None),
    "nifti colors behind": (".nii", nifti(TURNED[:, :, None, None]), RGB, None),
    "nifti rgb type": (".nii", nifti(np.ascontiguousarray(TURNED).view(RGB24)[..., 0]), RGB, None),
    "nifti gray": (".nii", nifti(GRAY.T), thrice(GRAY), REPEATED),
    "nifti one slice": (".nii", nifti(GRAY.T[..., None]), thrice(GRAY), REPEATED),
    "nifti two axes more": (".NII.GZ", nifti(GRAY.T[..., None, None]), thrice(GRAY), REPEATED),
    "gray": (".png", save(GRAY), thrice(GRAY), REPEATED),
    "gray jpeg": (".jpg", save(np.full_like(GRAY, 200)), np.full_like(RGB, 200), REPEATED),
    "gray 4 bits": (".png", png(4, 0, nibbles(GRAY // 16)), thrice(GRAY // 16 * 17), f"4 bits scaled to 8, {REPEATED}"),
    "1 bit": (".png", save(ALPHA, "1"), thrice(ALPHA), f"1 bit scaled to 8, {REPEATED}"),
    "1 bit bmp": (".bmp", save(ALPHA, "1"), thrice(ALPHA), f"1 bit scaled to 8, {REPEATED}"),
    "white is 0": (
        ".tif",
        tiff(GRAY, photometric="miniswhite"),
        thrice(255 - GRAY),
        f"inverted, because white is stored as 0, {REPEATED}",
    ),
    "white is 0, 16 bits": (
        ".tif",
        tiff(WIDE[..., 0], photometric="miniswhite"),
        thrice(255 - BYTES[..., 0]),
        f"{BITS_16}, inverted, because white is stored as 0, {REPEATED}",
    ),
    "palette": (".png", palette_picture(), COLORS[MASK], "palette to RGB"),
    "palette bmp": (".bmp", palette_picture(), COLORS[MASK], "palette to RGB"),
    "palette tiff": (".tif", palette_picture(), COLORS[MASK], "palette to RGB"),
    "palette transparent": (
        ".png",
        palette_picture(1),
        np.where(MASK[..., None] == 1, 255, COLORS[MASK]),
        f"palette to RGB, {ON_WHITE}",
    ),
    "rgba": (".png", save(np.dstack([RGB, ALPHA])), over_white(RGB), ON_WHITE),
    "rgba opaque": (".png", save(np.dstack([RGB, np.full_like(ALPHA, 255)])), RGB, "opaque alpha removed"),
    "rgba half": (
        ".png",
        save(np.dstack([RGB, np.full_like(ALPHA, 51)])),
        np.rint(RGB * 0.2 + 204).astype(np.uint8),
        ON_WHITE,
    ),
    "rgba tiff": (
        ".tif",
        tiff(np.dstack([RGB, ALPHA]), **AS_RGB, extrasamples=["unassalpha"]),
        over_white(RGB),
        ON_WHITE,
    ),
    "rgba multiplied": (
        ".tif",
        tiff(np.dstack([RGB // 2, np.full_like(ALPHA, 128)]), **AS_RGB, extrasamples=["assocalpha"]),
        np.rint(RGB // 2 + 255 * (1 - 128 / 255)).astype(np.uint8),
        ON_WHITE,
    ),
    "fourth of no meaning": (".tif", tiff(np.dstack([RGB, ALPHA]), **AS_RGB, extrasamples=["unspecified"]), RGB, None),
    "la": (".png", save(np.dstack([GRAY, ALPHA])), thrice(np.where(ALPHA > 0, GRAY, 255)), f"{REPEATED}, {ON_WHITE}"),
    "la tiff": (
        ".tif",
        save(np.dstack([GRAY, ALPHA])),
        thrice(np.where(ALPHA > 0, GRAY, 255)),
        f"{REPEATED}, {ON_WHITE}",
    ),
    "gray with a clear value": (
        ".png",
        png(8, 0, [row.tobytes() for row in MASK], (b"tRNS", struct.pack(">H", 2))),
        thrice(np.where(MASK == 2, 255, MASK)),
        f"{REPEATED}, {ON_WHITE}",
    ),
    "rgb with a clear color": (
        ".png",
        png(8, 2, [row.tobytes() for row in COLORS[MASK]], (b"tRNS", struct.pack(">HHH", 0, 0, 255))),
        np.where(MASK[..., None] == 2, 255, COLORS[MASK]),
        ON_WHITE,
    ),
    "1 bit with black clear": (
        ".png",
        png(1, 0, [b"\xe0"] * HEIGHT, (b"tRNS", struct.pack(">H", 0))),
        np.full_like(RGB, 255),
        f"1 bit scaled to 8, {REPEATED}, {ON_WHITE}",
    ),
    "cmyk": (".tif", save(np.full_like(RGB, (200, 100, 50)), "CMYK"), np.full_like(RGB, (200, 100, 50)), "CMYK to RGB"),
    "cmyk jpeg": (
        ".jpg",
        save(np.full_like(RGB, (200, 100, 40)), "CMYK", quality=100),
        np.full_like(RGB, (200, 100, 40)),
        "CMYK to RGB",
    ),
    "16 bits gray": (".png", save(WIDE[..., 0]), thrice(BYTES[..., 0]), f"{BITS_16}, {REPEATED}"),
    "16 bits png": (".png", png(16, 2, wide_rows(WIDE)), BYTES, BITS_16),
    "16 bits rgba": (
        ".png",
        png(16, 6, wide_rows(np.dstack([WIDE, ALPHA.astype(np.uint16) * 257]))),
        over_white(BYTES),
        f"{BITS_16}, {ON_WHITE}",
    ),
    "16 bits la": (
        ".png",
        png(16, 4, wide_rows(np.dstack([WIDE[..., 0], ALPHA.astype(np.uint16) * 257]))),
        over_white(thrice(BYTES[..., 0])),
        f"{BITS_16}, {REPEATED}, {ON_WHITE}",
    ),
    "16 bits tiff": (".tif", tiff(WIDE, **AS_RGB), BYTES, BITS_16),
    "16 bits tiff big end": (".tif", tiff(WIDE, **AS_RGB, byteorder=">"), BYTES, BITS_16),
    "16 bits tiff packed": (
        ".tif",
        tiff(WIDE, **AS_RGB, compression="zlib", predictor=True, byteorder=">"),
        BYTES,
        BITS_16,
    ),
    "16 bits tiff tiles": (".tif", tiff(WIDE, **AS_RGB, tile=(16, 16)), BYTES, BITS_16),
    "16 bits tiff planes": (".tif", tiff(WIDE.transpose(2, 0, 1), **AS_RGB, planarconfig="separate"), BYTES, BITS_16),
    "16 bits big tiff": (".tif", tiff(WIDE, **AS_RGB, bigtiff=True), BYTES, BITS_16),
    "16 bits gray big end": (
        ".tif",
        tiff(WIDE[..., 0], byteorder=">"),
        thrice(BYTES[..., 0]),
        f"{BITS_16}, {REPEATED}",
    ),
    "16 bits multiplied": (
        ".tif",
        tiff(np.dstack([WIDE // 2, np.full((HEIGHT, WIDTH), 32768, np.uint16)]), **AS_RGB, extrasamples=["assocalpha"]),
        np.rint(scaled(WIDE // 2, 65535) + 255 * (1 - 128 / 255)).astype(np.uint8),
        f"{BITS_16}, {ON_WHITE}",
    ),
    "16 bits cmyk": (
        ".tif",
        tiff(np.full((HEIGHT, WIDTH, 4), (0, 65535, 32768, 0), np.uint16), photometric="separated"),
        np.full_like(RGB, (255, 0, 127)),
        f"{BITS_16}, CMYK to RGB",
    ),
    "12 bits png": (".png", png(16, 2, wide_rows(LOW)), scaled(LOW, 4095), "12 bits in 16 scaled to 8"),
    "12 bits tiff": (".tif", tiff(LOW, **AS_RGB), scaled(LOW, 4095), "12 bits in 16 scaled to 8"),
    "12 bits nifti": (".nii", nifti(LOW.transpose(1, 0, 2)), scaled(LOW, 4095), "12 bits in 16 scaled to 8"),
    "8 bits in 16": (".tif", tiff(RGB.astype(np.uint16), **AS_RGB), RGB, "8 bits in 16 not scaled"),
    "32 bits": (".tif", tiff(WIDE.astype(np.uint32), **AS_RGB), BYTES, "16 bits in 32 scaled to 8"),
    "64 bits": (".tif", tiff(GRAY.astype(np.int64)), thrice(GRAY), f"8 bits in 64 not scaled, {REPEATED}"),
    "nifti 32 bits": (
        ".nii",
        nifti(GRAY.T.astype(np.int32)),
        thrice(GRAY),
        f"8 bits in 32 not scaled, {REPEATED}",
    ),
    "float to 1": (".tif", tiff((RGB / 255).astype(np.float32), **AS_RGB), RGB, "floats in [0, 1] scaled to 8 bits"),
    "float to 255": (".tif", tiff(RGB.astype(np.float64), **AS_RGB), RGB, "floats in [0, 255] scaled to 8 bits"),
    "half float": (
        ".tif",
        tiff(GRAY.astype(np.float16)),
        thrice(GRAY),
        f"floats in [0, 255] scaled to 8 bits, {REPEATED}",
    ),
    "float gray": (
        ".tif",
        save((GRAY / 255).astype(np.float32)),
        thrice(GRAY),
        f"floats in [0, 1] scaled to 8 bits, {REPEATED}",
    ),
    "float nifti": (".nii.gz", nifti((TURNED / 255).astype(np.float32)), RGB, "floats in [0, 1] scaled to 8 bits"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_read_as_its_pixels(name: str, tmp_path: Path) -> None:
    suffix, write, pixels, note = IMAGES[name]
    write(tmp_path / f"a{suffix}")
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.note == note
    assert picture_size(tmp_path / f"a{suffix}") == (HEIGHT, WIDTH)


def test_the_workaround_for_pillow_is_needed(tmp_path: Path) -> None:
    """Pillow reads 12 bits in 16 as black; if this test fails, the workaround can be removed."""
    write_png(tmp_path / "a.png", 16, 2, wide_rows(LOW))
    with Image.open(tmp_path / "a.png") as picture:
        assert np.asarray(picture).max() < 16
    assert read_image(tmp_path / "a.png").pixels.max() > 200


def tall(channels: int, dtype: str) -> np.ndarray:
    """A big picture that compresses well, with a gradient in its last channel."""
    pixels = np.full((2400, 2000, channels), 200, dtype)
    pixels[..., -1] = np.arange(2400)[:, None] % 256
    return pixels


@pytest.mark.parametrize(("channels", "dtype"), [(4, "uint8"), (3, "uint16")])
def test_big_pictures_are_converted_in_strips(channels: int, dtype: str, tmp_path: Path) -> None:
    pixels = tall(channels, dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib", extrasamples=["unassalpha"][: channels - 3]
    )
    tracemalloc.start()
    read = read_image(tmp_path / "a.tif").pixels
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * (pixels.nbytes + read.nbytes) + 48 * 2**20
    rows = np.s_[1000:1010]
    if dtype == "uint16":
        np.testing.assert_array_equal(read[rows], np.rint(pixels[rows] / 255 * 255).astype(np.uint8))
    else:
        share = pixels[rows, :, 3:] / 255
        np.testing.assert_array_equal(read[rows], np.rint(pixels[rows, :, :3] * share + 255 * (1 - share)))


def test_the_size_of_a_file_is_checked_before_memory_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    refused(lambda path: list(volume_slices(path, 2)), path, declared((1500,) * 3, "u1"), "takes 3.1 GiB")
    refused(read_image, path, declared((12_000, 12_000), "c16"), "values of the type complex128")
    refused(read_image, path, declared((13_000, 13_000), "f8"), "takes 1.3 GiB when it is read")
    refused(read_image, tmp_path / "a.tif", huge_tiff, r"takes 1.3 GiB when it is read, more than the limit \(1 GiB\)")


def declared(shape: tuple[int, ...], dtype: Any) -> Callable[[Path], None]:
    """NIfTI file with a header only, which declares values that the file does not have."""

    def write(path: Path) -> None:
        header = nibabel.Nifti1Header()
        header.set_data_dtype(dtype)
        header.set_data_shape(shape)
        header["vox_offset"] = 352
        with gzip.open(path, "wb") as file:
            file.write(header.binaryblock + bytes(1000))

    return write


def huge_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((1, 1)))
    for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
        with_tag(path, name, 13_000)


def with_tag(path: Path, name: str, value: int) -> None:
    """Change a tag of a TIFF."""
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[name].overwrite(value)


def test_a_full_memory_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("bundle.data.image_io.pictures.to_rgb", full)
    refused(read_image, tmp_path / "a.png", save(RGB), "does not fit into memory; cut it into tiles")


@pytest.mark.parametrize("side", ["ImageWidth", "ImageLength"])
@pytest.mark.parametrize("values", [RGB, WIDE / 65535])
def test_a_picture_without_pixels_is_refused(side: str, values: np.ndarray, tmp_path: Path) -> None:
    def write(path: Path) -> None:
        tifffile.imwrite(path, values, photometric="rgb", compression="zlib")
        with_tag(path, side, 0)

    for read in (read_image, read_label, picture_size):
        refused(read, tmp_path / "a.tif", write, "a.tif")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
def test_a_jpeg_is_read_as_pillow_reads_it(suffix: str, tmp_path: Path) -> None:
    save(RGB, quality=90)(tmp_path / f"a{suffix}")
    picture = read_image(tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as same:
        np.testing.assert_array_equal(picture.pixels, np.asarray(same))
    assert picture.note is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_pictures_and_masks_are_turned_as_viewers_show_them(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    constant = np.where(np.arange(16)[:, None, None] < 8, 0, 255).astype(np.uint8).repeat(24, 1).repeat(3, 2)
    save(constant, exif=exif, **({"compression": "tiff_deflate"} if suffix == ".tif" else {}))(tmp_path / f"a{suffix}")
    expected = shown(constant, orientation)
    assert picture_size(tmp_path / f"a{suffix}") == expected.shape[:2]
    picture = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(picture.pixels, expected, atol=1)
    assert picture.note == (None if orientation == 1 else "turned upright by its EXIF or TIFF orientation")
    if suffix != ".jpg":
        save(MASK, exif=exif)(tmp_path / f"b{suffix}")
        np.testing.assert_array_equal(read_label(tmp_path / f"b{suffix}").pixels, shown(MASK, orientation))


def shown(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as a viewer shows them: here Pillow's own function, on a PNG that is not read by this project."""
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    with Image.open(file) as picture:
        return np.asarray(ImageOps.exif_transpose(picture))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bits_and_floats_are_turned_too(orientation: int, tmp_path: Path) -> None:
    tags = [(274, 3, 1, orientation, True)]
    tiff(WIDE, photometric="rgb", extratags=tags)(tmp_path / "a.tif")
    tiff(WIDE / 65535, photometric="rgb", extratags=tags)(tmp_path / "b.tif")  # read by tifffile
    for name in ("a.tif", "b.tif"):
        expected = shown(scaled(WIDE, 65535), orientation)
        assert picture_size(tmp_path / name) == expected.shape[:2]
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, expected)


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0no tags", b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0"])
@pytest.mark.filterwarnings("ignore:.*EXIF")
def test_a_damaged_or_unknown_orientation_is_none(exif: bytes, tmp_path: Path) -> None:
    save(RGB, exif=exif)(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").pixels.shape == RGB.shape
    assert picture_size(tmp_path / "a.jpg") == RGB.shape[:2]


def test_smaller_copies_in_a_file_are_ignored(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB, photometric="rgb")
        file.write(RGB[::2, ::2], photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, RGB)


# Labels

BIG = np.where(MASK > 0, MASK.astype(np.int64) + 299, 0)
LABELS: dict[str, tuple[str, Callable[[Path], None], np.ndarray, str | None]] = {
    "8 bits": (".png", save(MASK), MASK, None),
    "bmp": (".bmp", save(MASK), MASK, None),
    "0 and 255": (".png", save((MASK > 0) * np.uint8(255)), (MASK > 0) * 255, None),
    "1 bit": (".png", save((MASK > 0) * np.uint8(255), "1"), MASK > 0, None),
    "1 bit tiff": (".tif", save((MASK > 0) * np.uint8(255), "1"), MASK > 0, None),
    "4 bits": (".png", png(4, 0, nibbles(MASK)), MASK, None),
    "16 bits": (".png", save(BIG.astype(np.uint16)), BIG, None),
    "16 bits tiff": (".tif", tiff(BIG.astype(np.uint16)), BIG, None),
    "16 bits signed": (".tif", tiff(BIG.astype(np.int16), byteorder=">"), BIG, None),
    "32 bits": (".tif", tiff((BIG * 1000).astype(np.uint32)), BIG * 1000, None),
    "32 bits big end": (".tif", tiff((BIG * 1000).astype(np.uint32), byteorder=">"), BIG * 1000, None),
    "32 bits signed": (".tif", save((BIG * 1000).astype(np.int32)), BIG * 1000, None),
    "64 bits": (".tif", tiff(BIG * 1000), BIG * 1000, None),
    "whole floats": (".tif", tiff(BIG.astype(np.float32)), BIG, None),
    "nifti": (".nii.gz", nifti(BIG.T.astype(np.int16)), BIG, None),
    "nifti of floats": (".nii", nifti(BIG.T[..., None].astype(np.float64)), BIG, None),
    "palette": (".png", palette_picture(), MASK, None),
    "palette tiff": (".tif", palette_picture(), MASK, None),
    "equal channels": (".png", save(thrice(MASK)), MASK, "equal channels reduced to one"),
    "equal channels of 16 bits": (".png", png(16, 2, wide_rows(thrice(BIG))), BIG, "equal channels reduced to one"),
    "opaque": (
        ".png",
        save(np.dstack([thrice(MASK), np.full_like(MASK, 255)])),
        MASK,
        "opaque alpha removed, equal channels reduced to one",
    ),
    "empty jpeg": (".jpg", save(MASK * 0), MASK * 0, None),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_a_label_is_read_as_its_numbers(name: str, tmp_path: Path) -> None:
    suffix, write, values, note = LABELS[name]
    write(tmp_path / f"a{suffix}")
    picture = read_label(tmp_path / f"a{suffix}")
    assert picture.pixels.dtype == np.int32
    np.testing.assert_array_equal(picture.pixels, values)
    assert picture.note == note


def test_valid_classes_are_read(tmp_path: Path) -> None:
    save(MASK)(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", classes=3).pixels, MASK)
    with pytest.raises(ValueError, match=r"a\.png: the highest value is 2, but 2 classes have values up to 1$"):
        read_label(tmp_path / "a.png", classes=2)


# What is refused


def swapped_palette(path: Path) -> None:
    """Black glands on white by color, but white has index 0."""
    picture = Image.fromarray(MASK % 2).convert("P")
    picture.putdata((MASK % 2).ravel().tolist())
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(path)


def blurred(path: Path) -> None:
    y, x = np.mgrid[:64, :96]
    disc = ((y - 32) ** 2 + (x - 48) ** 2 < 400) * np.uint8(255)
    Image.fromarray(disc).resize((70, 50), Image.Resampling.BILINEAR).save(path)


def two_pages(path: Path) -> None:
    pages = [Image.fromarray(RGB), Image.fromarray(RGB)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def lzw_planes(path: Path) -> None:
    """A TIFF of 16-bit planes with LZW in its header."""
    tiff(WIDE.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")(path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(5)


def without_a_strip(path: Path) -> None:
    tiff(RGB.astype(np.float32), photometric="rgb", rowsperstrip=2)(path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages.first.tags["StripByteCounts"]
        tag.overwrite([tag.value[0], 0, tag.value[2]])


BAD_IMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "empty": (".png", lambda path: path.touch(), "is empty; copy or export it again"),
    "text": (".png", lambda path: path.write_text("hello"), "is not a readable PNG, JPEG, BMP or TIFF; export"),
    "gif": (".png", save(GRAY, format="gif"), "is not a readable PNG, JPEG, BMP or TIFF"),
    "text as tiff": (".tif", lambda path: path.write_bytes(b"II*\0hello"), "is not a readable picture"),
    "text as nifti": (".nii", lambda path: path.write_text("hello"), "is not a readable picture"),
    "text as packed nifti": (".nii.gz", lambda path: path.write_text("hello"), "is not a readable picture"),
    "two pages": (".tif", two_pages, "holds 2 pictures, not one; save each as a separate file"),
    "stack": (".tif", tiff(np.zeros((9, 8, 8), np.uint8), photometric="minisblack"), "holds 9 pictures, not one"),
    "stack of floats": (".tif", tiff(np.zeros((9, 8, 8)), photometric="minisblack"), "holds 9 pictures, not one"),
    "stack of imagej": (".tif", tiff(np.zeros((9, 8, 8), np.uint8), imagej=True), "holds 9 pictures, not one"),
    "animation": (".png", two_pages, "holds 2 pictures, not one"),
    "5 channels": (
        ".tif",
        tiff(np.zeros((8, 8, 5), np.uint8), photometric="rgb", extrasamples=["unspecified"] * 2),
        "has 5 channels; save those of an RGB picture",
    ),
    "gray and two more": (".tif", tiff(RGB, photometric="minisblack", planarconfig="contig"), "has 3 channels; save"),
    "lab of 16 bits": (".tif", tiff(WIDE, photometric="cielab"), "has the color mode .*, which is not supported"),
    "no pixel": (".nii", nifti(np.zeros((0, 5), np.uint8)), "has a width or height of 0 px"),
    "a strip of no bytes": (".tif", without_a_strip, "is not a readable picture .parts of it are missing"),
    "7 floats": (".tif", tiff(np.zeros((8, 8, 7)), photometric="minisblack", planarconfig="contig"), "has 7 channels"),
    "lab": (".tif", lambda path: Image.new("LAB", (3, 4)).save(path), "has the color mode LAB, which is not"),
    "planes of lzw": (".tif", lzw_planes, "is not a readable picture .*imagecodecs"),
    "volume": (".nii", nifti(np.zeros((5, 6, 9), np.uint8)), r"of shape \(5, 6, 9\), not a flat picture"),
    "line": (".nii", nifti(np.zeros(5, np.uint8)), r"is a volume of shape \(5,\), not a flat picture"),
    "film": (".nii", nifti(np.zeros((5, 6, 1, 9), np.uint8)), "is a volume of shape"),
    "complex": (".nii", nifti(np.zeros((5, 6), np.complex64)), "values of the type complex64"),
    "negative": (".tif", tiff(GRAY.astype(np.int32) - 300), r"the lowest value is -\d+; save it with values from 0"),
    "signed bytes": (".tif", tiff(np.full((4, 4), -1, np.int8)), "the lowest value is -1"),
    "nifti negative": (".nii", nifti(GRAY.T.astype(np.int16) - 1000), "the lowest value is -"),
    "not a number": (".tif", tiff(np.full((4, 4), np.nan, np.float32)), "some values are not finite"),
    "float above": (".tif", tiff(np.full((4, 4), 256, np.float32)), r"256, which fits neither \[0, 1\] nor \[0, 255\]"),
    "float just above 1": (".tif", tiff(np.full((4, 4), 1.02, np.float32)), r"1\.02, which fits neither"),
    "above 16 bits": (".tif", tiff(np.full((4, 4), 65536, np.uint32)), "is 65536, above 16 bits"),
    "wholly transparent": (".png", save(np.dstack([RGB, ALPHA * 0])), "it is fully transparent"),
}  # fmt: skip
BAD_LABELS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "colors": (".png", save(RGB), "a mask must have one channel, this one has colors; save instance numbers"),
    "transparent": (".png", save(np.dstack([thrice(MASK), ALPHA])), "must not have transparent parts; save it without"),
    "transparent gray": (".png", save(np.dstack([MASK, ALPHA])), "a mask must not have transparent parts"),
    "white is 0": (".tif", tiff(MASK, photometric="miniswhite"), r"white is stored as 0 \(MinIsWhite\)"),
    "palette the other way": (".png", swapped_palette, "index 0 of its palette is not black"),
    "negative": (".tif", tiff(MASK.astype(np.int16) - 1), "the lowest value is -1; give a mask of integers"),
    "signed bytes": (".tif", tiff(MASK.astype(np.int8) - 1), "the lowest value is -1"),
    "fractions": (".tif", tiff(MASK * 0.5), "some values are fractions or not finite"),
    "fractions of nifti": (".nii", nifti(MASK.T * 0.5), "some values are fractions or not finite"),
    "too large": (".tif", tiff(MASK.astype(np.uint32) << 24), "number the glands 1, 2, 3"),
    "too large for 32 bits": (".tif", tiff(MASK.astype(np.uint64) << 33), "number the glands 1, 2, 3"),
    "jpeg": (".jpg", save((MASK.repeat(9, 0).repeat(9, 1) > 0) * np.uint8(255)), "pieces, as in a mask smoothed by"),
    "jpeg of few pieces": (".jpg", save(np.arange(3, dtype=np.uint8).repeat(512).reshape(48, 32) * 80), "it is a JPEG"),
    "resized": (".png", blurred, "pieces, as in a mask smoothed by JPEG or resizing; export it without either, or"),
    "volume": (".nii", nifti(np.zeros((5, 6, 9), np.uint8)), "is a volume of shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_an_invalid_image_is_refused(name: str, tmp_path: Path) -> None:
    suffix, write, arguments = BAD_IMAGES[name]
    refused(read_image, tmp_path / f"a{suffix}", write, arguments)


@pytest.mark.parametrize("name", BAD_LABELS)
def test_an_invalid_label_is_refused(name: str, tmp_path: Path) -> None:
    suffix, write, arguments = BAD_LABELS[name]
    refused(read_label, tmp_path / f"a{suffix}", write, arguments)


def refused(read: Callable[[Path], Any], path: Path, write: Callable[[Path], None], message: str) -> None:
    write(path)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize(
    "suffix",
    [".png", ".jpg", ".bmp", ".tif", "_lzw.tif", "_16.tif", "_16.png", "_float.tif", "_planes.tif", ".nii", ".nii.gz"],
)
def test_a_truncated_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 65536, (60, 80, 3), dtype=np.uint16)
    path = tmp_path / f"a{suffix}"
    if suffix == "_16.tif":
        tiff(noise, photometric="rgb", compression="zlib")(path)
    elif suffix == "_float.tif":
        tiff((noise % 256).astype(np.float32), photometric="rgb", compression="zlib", rowsperstrip=8)(path)
    elif suffix == "_planes.tif":
        tiff(noise.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")(path)
    elif suffix == "_16.png":
        write_png(path, 16, 2, wide_rows(noise), width=80)
    elif suffix.startswith(".nii"):
        nifti(noise)(path)
    else:
        save((noise >> 8).astype(np.uint8), **({"compression": "tiff_lzw"} if "lzw" in suffix else {}))(path)
    read_image(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_image, read_label):
        with pytest.raises(ValueError, match=r"is not a readable.*export it again$") as caught:
            read(path)
        assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize("suffix", [".png", ".tif", "_float.tif", ".nii"])
def test_a_picture_beyond_pillows_limit_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii":
        nifti(GRAY.T)(path)
    elif suffix == "_float.tif":
        tiff(GRAY.astype(np.float64))(path)
    else:
        save(GRAY)(path)
    read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"more pixels than the limit \(20\); cut it into tiles$"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_label, picture_size])
@pytest.mark.parametrize("suffix", [".png", ".nii"])
def test_a_missing_file_and_a_folder_are_named(read: Callable[[Path], Any], suffix: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"^no file .*a{suffix}; check the path$"):
        read(tmp_path / f"a{suffix}")
    (tmp_path / f"b{suffix}").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder; give the path of a picture"):
        read(tmp_path / f"b{suffix}")


def test_a_size_without_a_valid_header_is_refused(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif", "a.nii"):
        (tmp_path / name).write_bytes(b"II*\0hello")
        with pytest.raises(ValueError, match="is not a readable"):
            picture_size(tmp_path / name)
    nifti(np.zeros((5, 6, 9), np.uint8))(tmp_path / "b.nii")
    with pytest.raises(ValueError, match="is a volume"):
        picture_size(tmp_path / "b.nii")


# Names


@pytest.mark.parametrize(
    ("name", "stem"), [("a.png", "a"), ("x/b.nii.gz", "b"), ("B.NII.GZ", "B"), ("c.d.tif", "c.d"), ("e.nii", "e")]
)
def test_the_stem_of_a_name(name: str, stem: str) -> None:
    assert stem_of(name) == stem
    assert is_picture(name)


@pytest.mark.parametrize("name", [".a.png", "a.gz", "a.txt", "a", ".DS_Store", "._a.tif", "a.png.txt"])
def test_other_files_are_not_pictures(name: str) -> None:
    assert not is_picture(name)
