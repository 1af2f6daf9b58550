"""The reader in MONAI's transforms, from file to file."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, SaveImage
from PIL import Image

from bundle.data import PictureReader

RGB = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
LABEL = np.zeros((5, 7), np.uint8)
LABEL[1:3, 2:6] = 1
LABEL[4:, :2] = 2
REST = EnsureChannelFirstd(["image", "label"], allow_missing_keys=True)
CHAIN = Compose(
    [
        LoadImaged("image", reader=PictureReader("image")),
        LoadImaged("label", reader=PictureReader("label"), allow_missing_keys=True),
        REST,
    ]
)


def write_pair(folder: Path) -> dict[str, str]:
    Image.fromarray(RGB).save(folder / "image.png")
    Image.fromarray(LABEL).save(folder / "label.png")
    return {"image": str(folder / "image.png"), "label": str(folder / "label.png")}


def test_a_plain_pair_is_read_as_by_monais_reader(tmp_path: Path) -> None:
    entry = write_pair(tmp_path)
    old = Compose(
        [
            LoadImaged("image", reader="PILReader", converter=lambda picture: picture.convert("RGB")),
            LoadImaged("label", reader="PILReader"),
            REST,
        ]
    )
    new, known = CHAIN(entry), old(entry)
    for key in ("image", "label"):
        assert new[key].dtype == known[key].dtype == torch.float32
        assert torch.equal(new[key].as_tensor(), known[key].as_tensor())
        assert torch.equal(new[key].affine, known[key].affine)
        assert tuple(new[key].meta["spatial_shape"]) == tuple(known[key].meta["spatial_shape"]) == (7, 5)
        assert new[key].meta["filename_or_obj"] == entry[key]
        assert set(known[key].meta) - set(new[key].meta) == {"format", "mode", "width", "height"}
        assert str(new[key].meta["original_channel_dim"]) == str(known[key].meta["original_channel_dim"])


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.nii.gz", "float.tif"])
def test_a_rectangular_picture_keeps_its_orientation(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.nii.gz":
        nibabel.save(nibabel.Nifti1Image(RGB.transpose(1, 0, 2), np.eye(4)), path)
    elif name == "float.tif":
        tifffile.imwrite(path, RGB.astype(np.float32), photometric="rgb")
    else:
        Image.fromarray(RGB).save(path)
    image = CHAIN({"image": str(path)})["image"]
    assert image.shape == (3, 7, 5)
    np.testing.assert_array_equal(image.numpy(), RGB.transpose(2, 1, 0))
    SaveImage(
        output_dir=tmp_path / "out",
        output_ext=".png",
        output_postfix="",
        output_dtype=np.uint8,
        resample=False,
        separate_folder=False,
        print_log=False,
    )(image)
    (written,) = (tmp_path / "out").iterdir()
    with Image.open(written) as picture:
        np.testing.assert_array_equal(np.asarray(picture), RGB)


def test_numbers_of_instances_above_255_arrive(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LABEL.astype(np.uint32) * 70000)
    label = LoadImaged("label", reader=PictureReader("label"))({"label": tmp_path / "a.tif"})["label"]
    np.testing.assert_array_equal(label.numpy(), LABEL.T.astype(np.float32) * 70000)


def test_no_other_reader_is_tried_after_an_error(tmp_path: Path) -> None:
    """MONAI's own reader would silently read the first of two pages."""
    pages = [Image.fromarray(RGB), Image.fromarray(RGB)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    load = LoadImaged("image", reader=PictureReader("image"))
    with pytest.raises(ValueError, match=r"a\.tif holds 2 pictures, not one"):
        load({"image": str(tmp_path / "a.tif")})
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.png"):
        load({"image": str(tmp_path / "b.png")})
    with pytest.raises(ValueError, match=r"2 files are given for one picture \(.*a\.tif is the first\)"):
        load({"image": [str(tmp_path / "a.tif")] * 2})


def test_the_error_is_the_cause_of_the_pipelines_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(RuntimeError, match="applying transform") as caught:
        Dataset([{"image": str(tmp_path / "a.png")}], CHAIN)[0]
    causes = [caught.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert f"{tmp_path / 'a.png'} is empty; copy or export it again" in [str(cause) for cause in causes]


def test_classes_are_checked(tmp_path: Path) -> None:
    entry = write_pair(tmp_path)
    load = LoadImaged("label", reader=PictureReader("label", classes=2))
    with pytest.raises(ValueError, match="the highest value is 2, but 2 classes"):
        load(entry)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'mask'; give one of image, label"):
        PictureReader("mask")


def test_each_kind_of_conversion_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a", "b"):
        Image.fromarray(RGB[..., 0]).save(tmp_path / f"{name}.png")
        Image.fromarray(RGB).convert("RGBA").save(tmp_path / f"{name}_alpha.png")
        Image.fromarray(RGB).save(tmp_path / f"{name}_plain.png")
    load = LoadImaged("image", reader=PictureReader("image"))
    for path in sorted(tmp_path.iterdir()):
        load({"image": path})
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'a.png'}: gray repeated to RGB; further files are not logged",
        f"{tmp_path / 'a_alpha.png'}: opaque alpha removed; further files are not logged",
    ]
    LoadImaged("image", reader=PictureReader("image"))({"image": tmp_path / "a.png"})
    assert len(caplog.records) == 3  # each reader logs its own notes


def test_it_is_made_by_a_config_and_copied_to_workers(tmp_path: Path) -> None:
    entry = write_pair(tmp_path)
    reader = {"_target_": "bundle.data.PictureReader", "kind": "image"}
    parser = ConfigParser({"load": {"_target_": "LoadImaged", "keys": "image", "reader": reader}})
    load: Any = parser.get_parsed_content("load")
    for item in (load, copy.deepcopy(load), pickle.loads(pickle.dumps(load))):
        assert torch.equal(item(entry)["image"].as_tensor(), CHAIN({"image": entry["image"]})["image"].movedim(0, -1))
    loader = DataLoader(Dataset([entry, entry], CHAIN), batch_size=2, num_workers=1)
    (batch,) = list(loader)
    assert batch["image"].shape == (2, 3, 7, 5)
    assert batch["label"].shape == (2, 1, 7, 5)


def test_supported_suffixes() -> None:
    reader = PictureReader()
    assert reader.verify_suffix("a.NII.GZ")
    assert reader.verify_suffix(["a.png", Path("b.tiff")])
    assert not reader.verify_suffix(["a.png", "b.dcm"])
