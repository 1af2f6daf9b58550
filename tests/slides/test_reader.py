"""Slide readers: pixels, levels, pixel size, and unsupported files."""

from __future__ import annotations

import builtins
import contextlib
import pickle
import re

import numpy as np
import pytest
import tifffile

from bundle.slides import SlideError, dicom_series, is_slide, open_slide
from bundle.slides.reader_openslide import OpenSlideSlide, library
from bundle.slides.reader_tiff import TiffSlide, as_rgb
from tests.dicom_slides import write_dicom

needs_openslide = pytest.mark.skipif(library() is None, reason="OpenSlide is not installed")
BACKENDS = ["tifffile", pytest.param("openslide", marks=needs_openslide)]
PLACES = [(0, 0, 203, 141), (31, 47, 50, 40), (100, 90, 1, 1), (-7, -9, 30, 20), (190, 130, 40, 30), (300, 0, 5, 4)]


@pytest.fixture
def without_openslide(monkeypatch):
    """Simulate a machine without OpenSlide."""
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "openslide":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


def cut(pixels, x, y, width, height):
    """Crop a picture, white outside of its border."""
    far = np.pad(pixels, ((50, 350), (50, 350), (0, 0)), constant_values=255)
    return far[y + 50 : y + 50 + height, x + 50 : x + 50 + width]


@pytest.mark.parametrize("kind", ["pyramid", "subifd", "ome", "tiled", "plain", "striped"])
@pytest.mark.parametrize("path", PLACES)
def test_tifffile_gives_the_pixels_of_every_level(write_slide, pyramid, kind, path):
    with open_slide(write_slide(kind), "tifffile") as slide:
        assert slide.size == (203, 141)
        expected = [(1, (203, 141)), (2, (101, 70)), (4, (50, 35))]
        assert [(level.downsample, level.size) for level in slide.levels] in (expected, expected[:1])
        for index in range(len(slide.levels)):
            pixels = slide.read(index, *path)
            assert pixels.dtype == np.uint8
            np.testing.assert_array_equal(pixels, cut(pyramid[index], *path))
    assert len(slide.levels) == (3 if kind in ("pyramid", "subifd", "ome") else 1)


@needs_openslide
@pytest.mark.parametrize("path", PLACES)
def test_openslide_gives_the_same(write_slide, pyramid, path):
    with open_slide(write_slide("pyramid"), "openslide") as slide:
        assert [(level.downsample, level.size) for level in slide.levels] == [
            (1, (203, 141)),
            (2, (101, 70)),
            (4, (50, 35)),
        ]
        np.testing.assert_array_equal(slide.read(0, *path), cut(pyramid[0], *path))
        inner = slide.read(1, 40, 30, 20, 20).astype(int)  # this level's size is no half of the slide's: see the class
        assert np.abs(inner - pyramid[1][30:50, 40:60]).mean() < 8


@needs_openslide
def test_openslide_reads_a_wide_rectangle_in_parts(write_slide, picture, monkeypatch):
    monkeypatch.setattr("bundle.slides.reader_openslide.TOO_WIDE", 60)
    with open_slide(write_slide("pyramid"), "openslide") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 203, 141), picture)


def test_gray_and_alpha_become_colors(write_slide, picture, tmp_path):
    gray = picture[..., 0]
    for name, white in (("minisblack", gray), ("miniswhite", 255 - gray)):
        tifffile.imwrite(tmp_path / f"{name}.tif", white, photometric=name, tile=(32, 32))
        with open_slide(tmp_path / f"{name}.tif", "tifffile") as slide:
            pixels = slide.read(0, 0, 0, 210, 141)
        np.testing.assert_array_equal(pixels[:, :203], np.repeat(gray[..., None], 3, axis=-1))
        assert (pixels[:, 203:] == 255).all()
    alpha = np.full(gray.shape, 255, np.uint8)
    alpha[:70], alpha[70:80] = 0, 128
    rgba = np.dstack([picture, alpha])
    tifffile.imwrite(tmp_path / "rgba.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], tile=(32, 32))
    with open_slide(tmp_path / "rgba.tif", "tifffile") as slide:
        pixels = slide.read(0, 0, 0, 203, 141)
    assert (pixels[:70] == 255).all()
    np.testing.assert_array_equal(pixels[80:], picture[80:])
    assert np.abs(pixels[70:80] - (picture[70:80] * (128 / 255) + 127)).max() <= 1
    np.testing.assert_array_equal(as_rgb(np.array([[[7, 255], [7, 0]]], np.uint8), False), [[[7] * 3, [255] * 3]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tile_that_was_left_out_is_glass(tmp_path, picture, backend):
    tiles = [picture[:64, :64], None, picture[:64, :64], None]
    kind = {"photometric": "rgb", "compression": "zlib", "tile": (64, 64), "metadata": None}
    tifffile.imwrite(tmp_path / "sparse.tif", iter(tiles), shape=(128, 128, 3), dtype=np.uint8, **kind)
    with open_slide(tmp_path / "sparse.tif", backend) as slide:
        pixels = slide.read(0, 0, 0, 128, 128)
    np.testing.assert_array_equal(pixels[:64, :64], picture[:64, :64])
    assert (pixels[:, 64:] == 255).all()


RESOLUTIONS = [
    ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
    ({"resolution": (101600, 101600), "resolutionunit": "INCH"}, 0.25),
    ({"resolution": (20000, 20200), "resolutionunit": "CENTIMETER"}, 0.4975),
    ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    ({"resolution": (96, 96), "resolutionunit": "INCH"}, None),
    ({"resolution": (2, 2), "resolutionunit": "NONE"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("tags", "mpp"), RESOLUTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_resolution_tells_the_pixel_size_where_it_can(write_slide, tags, mpp, backend):
    with open_slide(write_slide("tiled", **tags), backend) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-4))


@pytest.mark.parametrize("backend", BACKENDS)
def test_metadata_tells_the_pixel_size(write_slide, backend):
    with open_slide(write_slide("ome", resolution=(72, 72), resolutionunit="INCH"), backend) as slide:
        assert slide.mpp == 0.25
    with open_slide(write_slide("tiled", description="A scanner|AppMag = 20|MPP = 0.4990"), backend) as slide:
        assert slide.mpp == 0.499
    with open_slide(write_slide("tiled", description="<OME><Pixels PhysicalSizeX='half'"), backend) as slide:
        assert slide.mpp is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_that_are_not_square_are_refused(write_slide, backend):
    path = write_slide("tiled", resolution=(20000, 20500), resolutionunit="CENTIMETER")
    with pytest.raises(SlideError, match=rf"{path} has pixels of 0\.5 x 0\.4878.* um, which are not square"):
        open_slide(path, backend)


def test_auto_takes_who_sees_most(write_slide):
    for kind in ("subifd", "ome", "pyramid", "plain"):
        assert isinstance(open_slide(write_slide(kind)), TiffSlide)


def test_jpeg_needs_a_decoder_and_says_so(write_slide, without_openslide):
    path = write_slide("jpeg")
    sentence = re.escape(str(path)) + " is compressed by JPEG, .*pip install openslide-python .*imagecodecs"
    for backend in ("auto", "tifffile"):
        with pytest.raises(SlideError, match=sentence):
            open_slide(path, backend)
    with pytest.raises(SlideError, match="needs OpenSlide, which is not installed; pip install openslide-python"):
        open_slide(path, "openslide")


@needs_openslide
def test_striped_jpeg_does_not_ask_for_openslide_which_does_not_read_it(write_slide):
    with pytest.raises(SlideError, match=r"compressed by JPEG, .*alone; pip install imagecodecs, or save it in tiles"):
        open_slide(write_slide("striped_jpeg"))


def test_striped_jpeg_does_not_ask_for_openslide_to_be_installed(write_slide, without_openslide):
    with pytest.raises(SlideError, match=r"compressed by JPEG, .*alone; pip install imagecodecs, or save it in tiles"):
        open_slide(write_slide("striped_jpeg"), "tifffile")


@needs_openslide
def test_jpeg_goes_to_openslide(write_slide, picture):
    with open_slide(write_slide("jpeg")) as slide:
        assert isinstance(slide, OpenSlideSlide)
        assert np.abs(slide.read(0, 0, 0, 203, 141).astype(int) - picture).mean() < 6


def test_all_works_without_openslide(write_slide, without_openslide, picture):
    with open_slide(write_slide("pyramid")) as slide:
        np.testing.assert_array_equal(slide.read(0, 5, 6, 70, 80), picture[6:86, 5:75])


REFUSED = [
    (lambda pixels: (pixels.astype(np.uint16) * 257, {"photometric": "rgb"}), "has 16 bits per color"),
    (lambda pixels: (pixels[..., 0] > 99, {}), "has 1 bits per color"),
    (lambda pixels: (np.moveaxis(pixels, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}), "planar"),
    (
        lambda pixels: (np.stack([pixels[..., 0]] * 5), {"photometric": "minisblack", "metadata": None}),
        "holds 5 planes|SKIP",
    ),
    (
        lambda pixels: (np.dstack([pixels, pixels]), {"photometric": "rgb", "planarconfig": "contig"}),
        "6 samples per pixel",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_other_layouts_are_refused(tmp_path, picture, change, sentence):
    pixels, options = change(picture)
    tifffile.imwrite(tmp_path / "odd.tif", pixels, tile=(32, 32), **options)
    with pytest.raises(SlideError, match=sentence):
        open_slide(tmp_path / "odd.tif", "tifffile")


def test_a_compressed_piece_that_is_too_large_is_refused(write_slide, monkeypatch):
    monkeypatch.setattr("bundle.slides.reader_tiff.MAX_PIECE_BYTES", 10_000)
    with pytest.raises(SlideError, match="keeps 19 x 203 px in one compressed piece; save it in tiles"):
        open_slide(write_slide("striped"), "tifffile")
    with open_slide(write_slide("plain"), "tifffile") as slide:  # of which any part can be taken
        assert slide.size == (203, 141)


def test_what_is_no_slide_is_one_sentence(tmp_path, write_slide):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tif"):
        open_slide(tmp_path / "nowhere.tif")
    (tmp_path / "text.tif").write_text("no picture")
    with pytest.raises(SlideError, match=r"text\.tif cannot be opened as a TIFF"):
        open_slide(tmp_path / "text.tif")
    with pytest.raises(SlideError, match="no backend 'cucim'"):
        open_slide(write_slide("plain"), "cucim")
    if library() is not None:
        with pytest.raises(SlideError, match=r"text\.tif cannot be opened by OpenSlide"):
            open_slide(tmp_path / "text.tif", "openslide")


@pytest.mark.parametrize("suffix", [".svs", ".tif"])
@pytest.mark.parametrize("content", [b"II*\0\0\0\0\0", b"II*\0\x08\0\0\0" + bytes(6), b"II*\0\xff\xff\0\0", b"MM\0*"])
def test_a_file_of_only_a_header_is_told_with_what_to_do(tmp_path, suffix, content):
    path = tmp_path / f"slide{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        SlideError, match=r"(opened as a TIFF \(.*\)|of 0 px); copy or export the slide again"
    ) as caught:
        open_slide(path)
    assert str(caught.value).startswith(str(path))
    assert "max()" not in str(caught.value)


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bits_are_told_or_read(tmp_path, picture, seed):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, tile=(64, 64), photometric="rgb", compression="zlib")
    content = bytearray(path.read_bytes())
    chosen = np.random.default_rng(seed)
    for folder in chosen.integers(4, 300, 2):
        content[folder] ^= 1 << chosen.integers(8)
    path.write_bytes(content)
    with contextlib.suppress(SlideError), open_slide(path) as slide:
        assert slide.read(0, 0, 0, 50, 50).shape == (50, 50, 3)


def damage(path, tile):
    """Overwrite one tile of level 0 with invalid data."""
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[0].dataoffsets[tile], file.pages[0].databytecounts[tile]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * length)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_tile_names_its_place_and_spoils_no_other(write_slide, picture, backend):
    path = write_slide("pyramid")
    damage(path, 7)  # 5 tiles of 48 x 32 px a row: x 96 to 144, y 32 to 64
    with open_slide(path, backend) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=rf"{path} is damaged at level 0, x 100 to 110, y 20 to 50 px"):
                slide.read(0, 100, 20, 10, 30)
            np.testing.assert_array_equal(slide.read(0, 0, 64, 203, 77), picture[64:])
            np.testing.assert_array_equal(slide.read(0, 144, 0, 59, 141), picture[:, 144:])


def test_a_file_that_was_cut_off_is_told(write_slide):
    for kind in ("plain", "striped"):
        path = write_slide(kind)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - 3000])
        with (
            pytest.raises(SlideError, match=f"{path} (is damaged|cannot be opened)"),
            open_slide(path, "tifffile") as slide,
        ):
            slide.read(0, 0, 100, 203, 41)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_slide_travels_to_another_process(write_slide, picture, backend):
    slide = open_slide(write_slide("pyramid"), backend)
    slide.read(0, 0, 0, 9, 9)
    sent = pickle.dumps(slide)
    slide.close()
    slide.close()
    with pickle.loads(sent) as other:
        assert (other.mpp, other.size, other.levels) == (slide.mpp, slide.size, slide.levels)
        np.testing.assert_array_equal(other.read(0, 3, 4, 50, 60), picture[4:64, 3:53])


@needs_openslide
def test_a_dicom_slide_is_opened_by_any_of_its_levels(pyramid, tmp_path):
    levels = [write_dicom(tmp_path / f"{index}.dcm", pyramid[index], "1.2.3", 0.5 * 2**index) for index in (0, 1)]
    other = write_dicom(tmp_path / "other.dcm", pyramid[0], "1.2.4")
    assert [dicom_series(path) for path in (*levels, other)] == ["1.2.3", "1.2.3", "1.2.4"]
    for path in levels:
        assert is_slide(path)
        with open_slide(path) as slide:
            assert [level.size for level in slide.levels] == [(203, 141), (101, 70)]
            assert slide.mpp == 0.5
            difference = slide.read(0, 31, 47, 50, 40).astype(int) - pyramid[0][47:87, 31:81]
            assert np.abs(difference).mean() < 10
    (tmp_path / "radiology.dcm").write_bytes(bytes(128) + b"DICM")
    assert dicom_series(tmp_path / "radiology.dcm") is None
    assert not is_slide(tmp_path / "radiology.dcm")
    with pytest.raises(SlideError, match=r"radiology.dcm cannot be opened by OpenSlide \(.*\); copy or export"):
        open_slide(tmp_path / "radiology.dcm")


def test_a_dicom_file_says_that_it_needs_openslide(tmp_path, without_openslide):
    (tmp_path / "a.dcm").write_bytes(b"")
    assert dicom_series(tmp_path / "a.dcm") is None
    with pytest.raises(SlideError, match="needs OpenSlide, which is not installed"):
        open_slide(tmp_path / "a.dcm")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_qptiff_is_read_beside_its_thumbnail_and_channels_are_refused(tmp_path, pyramid, backend):
    """Akoya's and PerkinElmer's layout: full resolution, thumbnail in strips, then smaller levels."""
    tiled = {"tile": (32, 48), "compression": "zlib", "photometric": "rgb", "metadata": None}
    about = "<PerkinElmer-QPI-ImageDescription><ImageType>%s</ImageType></PerkinElmer-QPI-ImageDescription>"
    resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "software": "PerkinElmer-QPI"}
    with tifffile.TiffWriter(tmp_path / "a.qptiff", bigtiff=True) as file:
        file.write(pyramid[0], description=about % "FullResolution", **tiled, **resolution)
        file.write(pyramid[2][:20, :20], description=about % "Thumbnail", photometric="rgb", metadata=None)
        file.write(pyramid[1], description=about % "ReducedResolution", subfiletype=1, **tiled)
    assert is_slide(tmp_path / "a.qptiff")
    with open_slide(tmp_path / "a.qptiff", backend) as slide:
        assert [level.size for level in slide.levels] == [(203, 141), (101, 70)]
        assert slide.mpp == 0.5
        np.testing.assert_array_equal(slide.read(0, 10, 20, 30, 40), pyramid[0][20:60, 10:40])
    with tifffile.TiffWriter(tmp_path / "b.qptiff") as file:
        for _ in range(2):
            file.write(pyramid[0][..., 0], description=about % "FullResolution", tile=(32, 48), metadata=None)
    with pytest.raises(SlideError, match=r"b\.qptiff"):
        open_slide(tmp_path / "b.qptiff", "tifffile")
