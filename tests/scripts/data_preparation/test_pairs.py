"""Images, masks and tables in a user's folder: how they are matched, and all error messages."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from scripts.data_preparation.pairs import check_rows, find_pairs, read_table


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_masks_have_the_stems_of_their_images(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "b.PNG", "a b.tif", "c.nii.gz", "notes.txt", ".hidden.png")
    masks = touch(tmp_path / "masks", "a b.png", "c.nii")
    pairs = [(pair.name, pair.image.name, pair.mask and pair.mask.name) for pair in find_pairs(images, masks)]
    assert pairs == [("a b", "a b.tif", "a b.png"), ("b", "b.PNG", None), ("c", "c.nii.gz", "c.nii")]


@pytest.mark.parametrize("masks", [None, "images"])
def test_a_suffix_identifies_masks_among_images(tmp_path: Path, masks: str | None) -> None:
    images = touch(tmp_path / "images", "a.png", "a_mask.bmp", "b.png")
    pairs = find_pairs(images, masks and tmp_path / masks, "_mask")
    assert [(pair.name, pair.mask) for pair in pairs] == [("a", images / "a_mask.bmp"), ("b", None)]


def test_names_match_in_any_unicode_form(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", unicodedata.normalize("NFD", "größe.png"))
    masks = touch(tmp_path / "masks", unicodedata.normalize("NFC", "größe.png"))
    (pair,) = find_pairs(images, masks)
    assert pair.name == "größe"
    assert pair.mask is not None


@pytest.mark.parametrize(
    ("images", "masks", "suffix", "message"),
    [
        ([], ["a.png"], "", r"no picture in .*images .* give --images a folder with"),
        (["a.png"], [], "", r"no picture in .*masks .* give --masks a folder with"),
        (
            ["a.png", "a.tif"],
            ["a.png"],
            "",
            r"names of 2 pictures differ only in suffix, case or folder \(.*a.png, .*a.tif\)",
        ),
        (["a.png"], ["a.png", "a.bmp"], "", "names of 2 pictures differ only .*masks"),
        (["a.png", "A.png"], ["a.png"], "", "differ only in suffix, case or folder"),
        (["a.png"], ["b.png"], "", r"1 mask without an image \(.*b.png\); name masks like their images, or"),
        (["a.png"], list("bcdef"), "", None),
        (["a.png", "b.png"], ["a_anno.png", "b_anno.png"], "", 'give --mask-suffix="_anno" if names of masks end in'),
        (["a.png", "b.png"], ["a_x.png", "b.png"], "_x", r"1 mask without an image \(.*b.png\); .* images plus _x, or"),
    ],
)
def test_refuses(tmp_path: Path, images: list[str], masks: list[str], suffix: str, message: str | None) -> None:
    if message is None:
        masks = [f"{name}.png" for name in masks]
        message = r"5 masks without an image \(.*b.png, .*c.png, .*d.png, \.\.\.\)"
    touch(tmp_path / "images", *images)
    touch(tmp_path / "masks", *masks)
    with pytest.raises(ValueError, match=message) as caught:
        find_pairs(tmp_path / "images", tmp_path / "masks", suffix)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "suffix", "message"),
    [
        (["a.png"], "", "no masks are given; give --masks"),
        (["a.png", "a_seg.png"], "", 'seems to hold images and masks; .* --mask-suffix="_seg"'),
        (["1.png", "10.png"], "", "no masks are given"),
        (["a.png"], "_mask", "no name in .*images ends in _mask"),
    ],
)
def test_refuses_images_alone(tmp_path: Path, names: list[str], suffix: str, message: str) -> None:
    touch(tmp_path / "images", *names)
    with pytest.raises(ValueError, match=message):
        find_pairs(tmp_path / "images", None, suffix)


def test_the_folder_of_images_given_twice_needs_a_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.png")
    with pytest.raises(ValueError, match="is also the folder of images; give the suffix of mask names"):
        find_pairs(tmp_path / "images", tmp_path / "images")


def test_missing_folders_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.png")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; give --images"):
        find_pairs(tmp_path / "nowhere", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; give --masks"):
        find_pairs(tmp_path / "images", tmp_path / "nowhere")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_as_programs_write_it(tmp_path: Path, separator: str) -> None:
    rows = [["Image ", "patient", "mpp", "age"], ["tïle 1.png", " 7", "0.5", "60"], ["b", "", "", ""], ["", "", "", ""]]
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "table.csv").write_text(text, encoding="utf-8-sig", newline="")
    known, unused = read_table(tmp_path / "table.csv")
    assert known == {"tïle 1": {"patient": "7", "mpp": 0.5}, "b": {}}
    assert unused == ["age"]


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image;mpp\na;0,5\n")
    assert read_table(tmp_path / "table.csv")[0] == {"a": {"mpp": 0.5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns of an empty file; give image and one or more of patient"),
        ("name,patient\na,1\n", "has the columns name, patient; give image and"),
        ("image,age\na,1\n", "has the columns image, age; give image and"),
        ("image,patient\na,1\na.png,2\n", "has several rows for a; give each image one row"),
        ("image,mpp\na,-1\n", "has the mpp -1 for a; give um, above 0 and at most 100"),
        ("image,mpp\na,wide\n", "has the mpp wide for a; give um"),
    ],
)
def test_refuses_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "table.csv")


def test_refuses_missing_tables_and_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("image,patient\nä,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"table.csv is not UTF-8"):
        read_table(tmp_path / "table.csv")
    with pytest.raises(FileNotFoundError, match=r"no table .*none.csv"):
        read_table(tmp_path / "none.csv")


def test_rows_need_an_image() -> None:
    check_rows(["a"], ["a", "b"])
    with pytest.raises(ValueError, match=r"the table has 4 rows without an image \(c, d, e, \.\.\.\)"):
        check_rows("acdef", "ab")


def test_a_mask_that_is_a_broken_link_is_an_error(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.png", "b.png")
    masks = touch(tmp_path / "masks", "a.png")
    (masks / "b.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"1 mask in \S+/masks is a broken link \(b.png\); restore"):
        find_pairs(images, masks)
    touch(images, "a_mask.png")
    (images / "b_mask.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"1 mask in \S+/images is a broken link \(b_mask.png\)"):
        find_pairs(images, None, "_mask")
    (images / "b_mask.png").unlink()
    (images / "c.png").symlink_to(tmp_path / "nowhere.png")
    assert [pair.name for pair in find_pairs(images, None, "_mask")] == ["a", "b"]


def test_folders_of_classes_hold_images_and_masks_beside_each_other(tmp_path: Path) -> None:
    """Equal names in several classes stay apart; a link back to the folder above is not followed again."""
    for part, mask in (("benign", "label"), ("malignant", "Masks")):
        (tmp_path / part).mkdir()
        touch(tmp_path / part / "image", "x.png", "y.png")
        touch(tmp_path / part / mask, "x.bmp")
    (tmp_path / "benign" / "again").symlink_to(tmp_path / "benign")
    pairs = find_pairs(tmp_path)
    assert [(pair.name, pair.image.parent.parent.name, pair.mask and pair.mask.parent.name) for pair in pairs] == [
        ("benign_x", "benign", "label"),
        ("benign_y", "benign", None),
        ("malignant_x", "malignant", "Masks"),
        ("malignant_y", "malignant", None),
    ]
    assert [pair.name for pair in find_pairs(tmp_path / "benign")] == ["x", "y"]
    with pytest.raises(ValueError, match=r"benign/label has a name of masks, .* omit --masks"):
        find_pairs(tmp_path, touch(tmp_path.with_name("other"), "x.png"))
    touch(tmp_path / "malignant" / "Images", "x.png")
    with pytest.raises(
        ValueError, match=r"names of 2 pictures differ only in .* folder \(.*Images/x.png, .*image/x.png"
    ):
        find_pairs(tmp_path)


def test_two_folders_may_have_the_same_folders_inside(tmp_path: Path) -> None:
    for part in ("images", "images/masks_of_all"):
        (tmp_path / part).mkdir()
    for part in ("a", "b"):
        touch(tmp_path / "images" / part, "x.png")
        touch(tmp_path / "images/masks_of_all" / part, "x_m.png")
    pairs = find_pairs(tmp_path / "images", tmp_path / "images/masks_of_all", "_m")
    assert [(pair.name, pair.mask and pair.mask.parent.name) for pair in pairs] == [("a_x", "a"), ("b_x", "b")]
