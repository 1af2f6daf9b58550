"""Export of a slide's mask as DICOM SEG, read back by highdicom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile

hd = pytest.importorskip("highdicom", reason="highdicom is not installed; make test-formats runs this")
pydicom = pytest.importorskip("pydicom")

SIZE = (300, 420)
"""Height and width of the full level, px."""


@pytest.fixture
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("export_dicom_seg")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Return the path of the full level of a slide of two levels, with another slide in the same folder."""
    series = pydicom.uid.generate_uid()
    study = pydicom.uid.generate_uid()
    for name, um, own in (("full.dcm", 0.5, series), ("half.dcm", 1.0, series), ("other.dcm", 0.25, study)):
        save_level(tmp_path / name, um, own, study)
    return tmp_path / "full.dcm"


def save_level(path: Path, um: float, series: str, study: str) -> None:
    """Save the header of one level, with tiles of 64 px and an empty pixel matrix."""
    height, width = (int(side * 0.5 / um) for side in SIZE)
    level = pydicom.Dataset()
    level.file_meta = pydicom.dataset.FileMetaDataset()
    level.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    level.SOPClassUID = level.file_meta.MediaStorageSOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    level.SOPInstanceUID = level.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    level.StudyInstanceUID, level.SeriesInstanceUID = study, series
    level.FrameOfReferenceUID = pydicom.uid.generate_uid()
    level.ContainerIdentifier, level.Modality = "S1", "SM"
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        setattr(level, name, "")
    for name in ("StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"):
        setattr(level, name, "")
    level.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    level.DimensionOrganizationType = "TILED_FULL"
    level.Rows = level.Columns = 64
    level.TotalPixelMatrixRows, level.TotalPixelMatrixColumns = height, width
    level.TotalPixelMatrixFocalPlanes = level.NumberOfOpticalPaths = 1
    level.NumberOfFrames = -(-height // 64) * -(-width // 64)
    level.SamplesPerPixel, level.PhotometricInterpretation, level.PlanarConfiguration = 3, "RGB", 0
    level.BitsAllocated, level.BitsStored, level.HighBit, level.PixelRepresentation = 8, 8, 7, 0
    level.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = pydicom.Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 20.0, 40.0
    level.TotalPixelMatrixOriginSequence = [origin]
    groups, measures = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [um / 1000, um / 1000], 0.001
    groups.PixelMeasuresSequence = [measures]
    level.SharedFunctionalGroupsSequence = [groups]
    optical = pydicom.Dataset()
    optical.OpticalPathIdentifier = "1"
    level.OpticalPathSequence = [optical]
    level.PixelData = bytes(level.NumberOfFrames * 64 * 64 * 3)
    level["PixelData"].VR = "OB"
    level.save_as(path, enforce_file_format=True)


def save_mask(path: Path, mask: np.ndarray) -> Path:
    """Save a mask as a pyramid of two levels."""
    with tifffile.TiffWriter(path) as file:
        file.write(mask, subifds=1, tile=(64, 64))
        file.write(mask[::2, ::2], subfiletype=1, tile=(64, 64))
    return path


def blobs(values: int) -> np.ndarray:
    rows, columns = np.indices(SIZE)
    mask = np.zeros(SIZE, np.uint8)
    for number in range(values):
        mask[(rows - 80 - 90 * number) ** 2 + (columns - 100 - 120 * number) ** 2 < 60**2] = number + 1
    return mask


def run(program: ModuleType, slide: Path, mask: Path, *more: str) -> tuple[int, Path]:
    output = slide.parent / "seg.dcm"
    return program.main(["--slide", str(slide), "--mask", str(mask), "--output", str(output), *more]), output


def test_the_segmentation_is_the_mask_on_its_slide(program, slide, tmp_path, capsys):
    mask = blobs(1)
    code, output = run(program, slide, save_mask(tmp_path / "slide_mask.tif", mask * 255))
    assert code == 0, capsys.readouterr().err
    assert "420 x 300 px, gland " in capsys.readouterr().out
    segmentation, source = hd.seg.segread(output), pydicom.dcmread(slide)
    assert np.array_equal(segmentation.get_total_pixel_matrix(combine_segments=True), mask)
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert segmentation.StudyInstanceUID == source.StudyInstanceUID
    assert segmentation.SeriesInstanceUID != source.SeriesInstanceUID
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["gland"]


def test_classes_are_segments_and_a_smaller_level_is_used_for_less_memory(program, slide, tmp_path):
    mask = blobs(2)
    path = save_mask(tmp_path / "slide_mask.tif", mask)
    slide = slide.rename(slide.with_name("LEVEL0"))
    classes = ["--classes", "background", "benign", "malignant"]
    code, output = run(program, slide, path, *classes, "--max-megapixels", "0.05")
    assert code == 0
    segmentation = hd.seg.segread(output)
    assert np.array_equal(segmentation.get_total_pixel_matrix(combine_segments=True), mask[::2, ::2])
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["benign", "malignant"]
    types = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in segmentation.SegmentSequence]
    assert types == ["1", "2"]


def test_a_mask_of_the_working_resolution_is_sampled_at_the_nearest_pixels(program, slide, tmp_path):
    mask = blobs(1)
    tifffile.imwrite(tmp_path / "slide_mask.tif", mask[::3, ::3] * 255)
    code, output = run(program, slide, tmp_path / "slide_mask.tif")
    assert code == 0
    difference = hd.seg.segread(output).get_total_pixel_matrix(combine_segments=True) != mask
    assert difference.mean() < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": blobs(2)}, "has the value 2, but --classes names 1; name all classes"),
        ({"mask": blobs(1)[:, :200]}, "has the shape 200 x 300, which is not that of the slide"),
        ({"more": ["--max-megapixels", "0.01"]}, "give a larger --max-megapixels"),
        ({"slide": "none.dcm"}, "no DICOM file"),
        ({"slide": "text.dcm"}, "is no DICOM file"),
        ({"slide": "slide_mask.tif"}, "no DICOM file"),
        ({"taken": True}, "exists; give another --output"),
        ({"mask": blobs(1) * np.float32(0.9)}, "holds float32 values, which are not classes"),
        ({"mask": -blobs(1).astype(np.int16)}, "holds int16 values, which are not classes"),
        ({"damage": b"II*\0abc"}, "is not a readable TIFF"),
        ({"damage": b""}, "is not a readable TIFF"),
        ({"lacks": "TotalPixelMatrixRows"}, "is no level of a whole slide in DICOM"),
        ({"lacks": "SharedFunctionalGroupsSequence"}, "is not complete"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(program, slide, tmp_path, capsys, change: Any, message):
    mask = save_mask(tmp_path / "slide_mask.tif", change.get("mask", blobs(1)))
    (tmp_path / "text.dcm").write_text("no picture")
    if "damage" in change:
        mask.write_bytes(change["damage"])
    if "lacks" in change:
        for path in (slide, slide.with_name("half.dcm")):
            header = pydicom.dcmread(path)
            del header[change["lacks"]]
            header.save_as(path)
    if change.get("taken"):
        (tmp_path / "seg.dcm").write_bytes(b"mine")
    code, output = run(program, tmp_path / change.get("slide", slide.name), mask, *change.get("more", []))
    assert code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert output.exists() == bool(change.get("taken"))
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("more", [["--classes", "a", "a"], ["--classes", ""], ["--max-megapixels", "nan"]])
def test_a_wrong_command_line_is_refused(program, slide, tmp_path, more, capsys):
    with pytest.raises(SystemExit) as caught:
        run(program, slide, tmp_path / "mask.tif", *more)
    assert caught.value.code == 2
    assert more[0] in capsys.readouterr().err
