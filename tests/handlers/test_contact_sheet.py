"""Contact sheet: selection of images, and drawing."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.handlers.contact_sheet import Tile, contact_sheet, spread, thumbnail
from bundle.handlers.drawing import TRUTH

GRAY = 200


def tile(name: str, height: int = 40, width: int = 60, labeled: bool = False, read: list[str] | None = None) -> Tile:
    """A gray image, with a square gland if labeled; reads are recorded in ``read``."""

    def load() -> tuple[np.ndarray, np.ndarray | None]:
        if read is not None:
            read.append(name)
        label = np.zeros((height, width), np.int32)
        label[10:30, 10:30] = 300  # more than a byte holds
        return np.full((height, width, 3), GRAY, np.uint8), label if labeled else None

    return Tile(name, load, f"{width} x {height} px")


def is_contour(picture: np.ndarray) -> np.ndarray:
    return (picture == TRUTH).all(axis=-1)


def contour_pixels(picture: np.ndarray) -> int:
    return int(is_contour(picture).sum())


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"training": 7, "unlabeled": 61, "validation": 17, "test": 80}, [6, 6, 6, 6]),
        ({"training": 43, "unlabeled": 42, "test": 80}, [12, 6, 6]),
        ({"training": 2, "test": 100}, [2, 18]),
        ({"training": 100}, [24]),
        ({"training": 3, "unlabeled": 0}, [3]),
        ({}, []),
    ],
)
def test_parts_share_the_rows(counts: dict[str, int], shown: list[int]) -> None:
    chosen = spread(counts, rows=4, columns=6)
    assert [len(indices) for indices in chosen.values()] == shown


def test_each_part_has_a_row_even_where_rows_are_few() -> None:
    assert {part: len(indices) for part, indices in spread({"a": 9, "b": 9, "c": 1}, 2, 3).items()} == {
        "a": 3,
        "b": 3,
        "c": 1,
    }


def test_images_are_taken_evenly() -> None:
    assert spread({"a": 12}, rows=1, columns=6)["a"] == [1, 3, 5, 7, 9, 11]
    assert spread({"a": 6}, rows=1, columns=6)["a"] == [0, 1, 2, 3, 4, 5]
    assert spread({"a": 7}, rows=1, columns=3)["a"] == [1, 3, 5]


def test_the_sheet_is_bounded_and_reads_only_what_it_shows() -> None:
    read: list[str] = []
    parts = {"training": [tile(str(number), read=read) for number in range(500)]}
    sheet = contact_sheet("list.json", parts, rows=2, columns=3, cell=50)
    assert len(read) == 6
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] < 350
    assert sheet.shape[1] < 250


def test_labeled_images_have_contours_and_unlabeled_ones_have_none() -> None:
    labeled = contact_sheet("a", {"training": [tile("a", labeled=True)]}, columns=2, cell=120)
    plain = contact_sheet("a", {"training": [tile("a")]}, columns=2, cell=120)
    # The key beside the title has the color on both sheets.
    assert contour_pixels(labeled) > contour_pixels(plain) + 100
    assert contour_pixels(plain) == contour_pixels(contact_sheet("a", {}, columns=2, cell=120))


def test_a_contour_lies_on_the_rim_of_the_gland() -> None:
    picture = thumbnail(tile("a", labeled=True), 120)
    assert picture.shape == (80, 120, 3)
    assert is_contour(picture)[[20, 40], [40, 20]].all()
    assert (picture[30:50, 30:50] == GRAY).all()
    assert (picture[:, 80:] == GRAY).all()


def test_touching_glands_are_parted_by_a_contour() -> None:
    label = np.zeros((40, 60), np.int32)
    label[10:30, 10:30], label[10:30, 30:50] = 256, 512  # equal, if only a byte were kept
    picture = thumbnail(Tile("a", lambda: (np.full((40, 60, 3), GRAY, np.uint8), label)), 120)
    assert is_contour(picture)[40, 59:61].all()


def test_pictures_keep_their_proportions() -> None:
    def colors(height: int, width: int) -> int:
        sheet = contact_sheet("a", {"training": [tile("a", height, width)]}, columns=1, cell=100)
        return int((sheet == GRAY).all(axis=-1).sum())

    assert colors(50, 100) == pytest.approx(50 * 100, rel=0.04)
    assert colors(100, 50) == pytest.approx(50 * 100, rel=0.04)
    assert thumbnail(tile("a", 3, 1000), 100).shape == (1, 100, 3)
    colors(3, 1000)  # can be drawn; the frame covers it


def test_long_names_stay_in_their_column() -> None:
    name = "begin_" + "a_long_name_of_a_slide_" * 10 + "end.png"
    first = contact_sheet("a", {"training": [tile(name)]}, columns=2, cell=100)
    assert (first[58:, 8 + 100 + 2 :] == 255).all()  # right of the first column, below the titles
    assert (first[58 + 67 :, 8:90] < 128).any()  # the name is below the picture
    assert contact_sheet(name * 5, {"training": [tile("")]}, columns=2, cell=100).shape == first.shape
