"""Pictures for inference: a damaged file gives an error message, a wrong setting stops the run."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import tifffile
from monai.transforms import Compose, EnsureChannelFirstd, Lambdad, LoadImaged
from PIL import Image

from bundle.data import PictureReader, PicturesToPredict, images_to_predict, slides_to_predict

READING = [LoadImaged("image", reader=PictureReader("image")), EnsureChannelFirstd("image")]


@pytest.fixture
def entries(tmp_path) -> list[dict[str, str]]:
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no picture")
    return [{"image": str(tmp_path / name)} for name in ("whole.png", "cut.png", "text.png", "gone.png")]


def test_an_unreadable_file_gives_an_error_message(entries):
    items = list(PicturesToPredict(entries, Compose(READING)))
    assert items[0]["image"].shape == (3, 30, 20)
    for item, entry in zip(items[1:], entries[1:], strict=True):
        assert item["image"] == entry["image"]
        assert entry["image"] in item["failed"]
        assert "\n" not in item["failed"]


@pytest.mark.parametrize("side", ["ImageWidth", "ImageLength"])
def test_a_picture_without_pixels_is_left_out(tmp_path, side):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags[side].overwrite(0)
    (item,) = PicturesToPredict([{"image": str(tmp_path / "a.tif")}], Compose(READING))
    assert item["failed"].startswith(str(tmp_path / "a.tif"))


def test_another_error_stops_the_run(entries):
    def wrong(image):
        raise ValueError("a setting that cannot be")

    with pytest.raises(RuntimeError, match="applying transform"):
        PicturesToPredict(entries[:1], Compose([*READING, Lambdad("image", wrong)]))[0]


def test_a_list_of_pictures_needs_no_labels_and_may_name_a_missing_one(entries, tmp_path):
    content = {"test": [{"image": "whole.png", "mpp": 0.5}, {"image": "gone.png"}]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    assert images_to_predict(tmp_path, "list.json") == [
        {"image": str(tmp_path / "whole.png"), "mpp": 0.5},
        {"image": str(tmp_path / "gone.png")},
    ]
    (tmp_path / "empty.json").write_text(json.dumps({"training": []}))
    with pytest.raises(ValueError, match="no image under 'test'"):
        images_to_predict(tmp_path, "empty.json")


def test_one_picture_or_slide_in_place_of_a_folder(entries, tmp_path):
    assert images_to_predict(tmp_path / "a" / ".." / "whole.png") == [{"image": str(tmp_path / "whole.png")}]
    assert slides_to_predict(tmp_path / "cut.png") == [{"image": str(tmp_path / "cut.png")}]


def test_slides_come_from_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder or slide"):
        slides_to_predict(tmp_path / "none")
    with pytest.raises(ValueError, match="no slide in"):
        slides_to_predict(tmp_path)
    for name in ("b.svs", "a.tif", "note.txt"):
        (tmp_path / name).write_text("")
    assert [entry["image"] for entry in slides_to_predict(tmp_path)] == [str(tmp_path / n) for n in ("a.tif", "b.svs")]
    with pytest.raises(ValueError, match="slides are taken from a folder"):
        slides_to_predict(tmp_path, "list.json")
    (tmp_path / "a.svs").write_text("")
    with pytest.raises(ValueError, match="differ only in the suffix"):
        slides_to_predict(tmp_path)


def test_dicom_files_of_a_series_are_one_slide(tmp_path, caplog):
    """The series are OpenSlide's, tested with the readers of slides; other DICOM files are named."""
    series = {"a.dcm": "2", "b.DCM": "1", "c.dcm": "1", "d.dcm": None}
    for name in (*series, "e.qptiff", "._b.dcm"):
        (tmp_path / name).write_text("")
    result = slides_to_predict(tmp_path, series=lambda file: series[file.name])
    assert result == [{"image": str(tmp_path / name)} for name in ("a.dcm", "b.DCM", "e.qptiff")]
    assert f"1 file in {tmp_path} is left out: d.dcm (no slide that OpenSlide can open)" in caplog.text


def test_hidden_files_of_macos_are_no_slides(tmp_path):
    for name in ("slide.tif", "._slide.tif", "._slide.svs"):
        (tmp_path / name).write_text("")
    assert slides_to_predict(tmp_path) == [{"image": str(tmp_path / "slide.tif")}]


@pytest.mark.parametrize(
    ("find", "used", "others", "names"),
    [
        (images_to_predict, "a.png", ["b.webp", "c.gif", "d.jp2"], "b.webp, c.gif, d.jp2 (another format)"),
        (slides_to_predict, "a.tif", ["b.dcm", "c.vsi"], "b.dcm, c.vsi (another format)"),
        (
            images_to_predict,
            "a.png",
            ["b.txt", "link.png"],
            "link.png (broken link); b.txt (another format)",
        ),
        (slides_to_predict, "a.tif", ["link.svs"], "link.svs (broken link)"),
    ],
)
def test_no_file_is_passed_over_without_a_word(tmp_path, caplog, find, used, others, names):
    for name in (used, *others):
        if name.startswith("link"):
            (tmp_path / name).symlink_to(tmp_path / "nowhere")
        else:
            (tmp_path / name).write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden.webp").write_text("")
    with caplog.at_level(logging.WARNING, logger="bundle.data"):
        assert find(tmp_path) == [{"image": str(tmp_path / used)}]
    count = f"{len(others)} file{'s are' if len(others) > 1 else ' is'}".replace("file is", f"file in {tmp_path} is")
    assert count.replace("files are", f"files in {tmp_path} are") + f" left out: {names}" in caplog.text
    caplog.clear()
    for name in others:
        (tmp_path / name).unlink()
    find(tmp_path)
    assert caplog.text == ""


def test_masks_beside_pictures_are_not_in_the_warning(tmp_path, caplog):
    """The masks of GlaS are in the folder of its images."""
    for name in ("a.bmp", "a_anno.bmp"):
        (tmp_path / name).write_text("")
    with caplog.at_level(logging.WARNING, logger="bundle.data"):
        assert len(images_to_predict(tmp_path)) == 1
    assert caplog.text == ""
