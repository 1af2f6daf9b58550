"""Pictures for inference: a broken file gives its reason, a broken setting stops the run."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import Compose, EnsureChannelFirstd, Lambdad, LoadImaged
from PIL import Image

from bundle.data import PictureReader, PicturesToPredict

READING = [LoadImaged("image", reader=PictureReader("image")), EnsureChannelFirstd("image")]


@pytest.fixture
def entries(tmp_path) -> list[dict[str, str]]:
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no picture")
    return [{"image": str(tmp_path / name)} for name in ("whole.png", "cut.png", "text.png", "gone.png")]


def test_a_file_that_cannot_be_read_gives_the_reason(entries):
    items = list(PicturesToPredict(entries, Compose(READING)))
    assert items[0]["image"].shape == (3, 30, 20)
    for item, entry in zip(items[1:], entries[1:], strict=True):
        assert item["image"] == entry["image"]
        assert entry["image"] in item["failed"]
        assert "\n" not in item["failed"]


def test_another_error_stops_the_run(entries):
    def wrong(image):
        raise ValueError("a setting that cannot be")

    with pytest.raises(RuntimeError, match="applying transform"):
        PicturesToPredict(entries[:1], Compose([*READING, Lambdad("image", wrong)]))[0]
