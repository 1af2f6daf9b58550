"""Tests of the program that draws a whole slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bundle.slides import open_slide
from bundle.slides.reader_openslide import library


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """The program as a module."""
    return load_program("draw_slide")


@pytest.fixture(scope="module")
def drawn(program: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A slide of 600 x 410 px at 0.5 um/px, and its mask."""
    folder = tmp_path_factory.mktemp("drawn")
    arguments = [
        "--size",
        "600",
        "410",
        "--mpp",
        "0.5",
        "--tissue",
        "0.4",
        "--tile",
        "64",
        "--mask",
        str(folder / "mask.tif"),
    ]
    assert program.main(["--output", str(folder / "slide.tif"), *arguments]) == 0
    return folder / "slide.tif", folder / "mask.tif"


def pixels_of(path, level=0, backend="tifffile"):
    with open_slide(path, backend) as slide:
        return slide.read(level, 0, 0, *slide.levels[level].size)


@pytest.mark.parametrize("backend", ["tifffile", "openslide"])
def test_every_reader_opens_it(drawn, backend):
    if backend == "openslide" and library() is None:
        pytest.skip("OpenSlide is not installed")
    for path in drawn:
        with open_slide(path, backend) as slide:
            assert slide.mpp == pytest.approx(0.5)
            sizes = [(level.downsample, level.size) for level in slide.levels]
            assert sizes == [(1, (600, 410)), (2, (300, 205)), (4, (150, 102)), (8, (75, 51)), (16, (37, 25))]
    np.testing.assert_array_equal(pixels_of(drawn[0], 0, backend), pixels_of(drawn[0]))


def test_it_is_tissue_on_glass_and_glands_lie_in_tissue(drawn, program):
    pixels, mask = (pixels_of(path) for path in drawn)
    glass = (pixels == (245, 242, 247)).all(axis=-1)
    assert 0.45 < glass.mean() < 0.7
    assert np.abs(np.diff(pixels[~glass].astype(int), axis=0)).mean() > 5
    assert set(np.unique(mask)) == {0, 255}
    glands = mask[..., 0] > 0
    assert 0.05 < glands.mean() < 0.4
    assert (glands & glass).sum() < 0.01 * glands.sum()


def test_levels_show_the_same_places(drawn):
    fine = pixels_of(drawn[0])[:408, :600].astype(float)
    means = fine.reshape(102, 4, 150, 4, 3).mean(axis=(1, 3))
    coarse = pixels_of(drawn[0], 2)
    assert np.abs(means - coarse).mean() < 1
    assert np.abs(means[:, 1:] - coarse[:, :-1]).mean() > 5  # what a shift by one pixel would give


def test_one_seed_draws_one_slide(program, drawn, tmp_path):
    arguments = ["--size", "600", "410", "--mpp", "0.5", "--tissue", "0.4", "--tile", "64"]
    assert program.main(["--output", str(tmp_path / "same.tif"), *arguments]) == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "same.tif"), pixels_of(drawn[0]))
    assert program.main(["--output", str(tmp_path / "other.tif"), *arguments, "--seed", "5"]) == 0
    assert (pixels_of(tmp_path / "other.tif") != pixels_of(drawn[0])).mean() > 0.2


@pytest.mark.parametrize(("tissue", "share"), [("0", 1.0), ("1", 0.0)])
def test_all_glass_and_all_tissue(program, tmp_path, tissue, share):
    path = tmp_path / "slide.tif"
    assert program.main(["--output", str(path), "--size", "100", "130", "--tissue", tissue, "--no-mpp"]) == 0
    assert (pixels_of(path) == (245, 242, 247)).all(axis=-1).mean() == pytest.approx(share, abs=0.01)
    with open_slide(path, "tifffile") as slide:
        assert slide.mpp is None


def test_the_smallest_slide(program, tmp_path):
    for size in (("1", "1"), ("3", "700")):
        assert program.main(["--output", str(tmp_path / "slide.tif"), "--size", *size]) == 0
        assert pixels_of(tmp_path / "slide.tif").shape == (int(size[1]), int(size[0]), 3)


def test_glass_is_encoded_once(program, monkeypatch):
    slide = program.PhantomSlide((6400, 6400), 1.0, 0.01, 0, 64)
    encoded = []
    monkeypatch.setattr(program, "_deflated", lambda pixels: encoded.append(pixels.shape) or b"")
    monkeypatch.setattr(slide, "texture", lambda number: {"image": [np.zeros((64, 64, 3), np.uint8)] * 10})
    assert len(list(slide.encoded(0, "image"))) == 10_000
    assert len(encoded) < 1000


def test_what_is_wrong_is_one_sentence_and_leaves_nothing(program, tmp_path, capsys, monkeypatch):
    path = str(tmp_path / "slide.tif")
    for message in (
        ["--size", "0", "5"],
        ["--tissue", "2"],
        ["--tile", "100"],
        ["--mpp", "9"],
        ["--mask", path],
        ["--seed", "-1"],
    ):
        with pytest.raises(SystemExit) as ended:
            program.main(["--output", path, *message])
        assert ended.value.code == 2
        assert f"{message[0]} " in capsys.readouterr().err.splitlines()[-1]
    blocked = tmp_path / "file"
    blocked.touch()
    assert program.main(["--output", str(blocked / "slide.tif"), "--size", "50", "50"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("draw_slide: ")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program.PhantomSlide, "drawn", interrupt)
    assert program.main(["--output", path, "--size", "300", "300", "--mask", str(tmp_path / "mask.tif")]) == 130
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
