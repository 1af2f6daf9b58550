"""Export the mask of a whole slide as DICOM SEG, which refers to the DICOM slide it was predicted from.

    python scripts/export_dicom_seg.py --slide SLIDES/slide.dcm --mask OUT/slide_mask.ome.tif --output slide_seg.dcm
    python scripts/export_dicom_seg.py ... --classes benign malignant --max-megapixels 1600

The mask comes from configs/inference/slides.yaml. The SEG has one binary segment for each class and the pixel matrix of
one level of the slide: the largest of at most --max-megapixels, because the whole matrix is held in memory. A mask of
another size is sampled at the nearest pixels. The file is read back and compared before it appears. Classes have the
codes 1, 2, ... of a private scheme (99SEMIMOE). Requires the extra `dicom` (Python 3.11; `make formats-install`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

import numpy as np
from numpy.typing import NDArray

MICROSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of VL Whole Slide Microscopy Image Storage."""
SCHEME = "99SEMIMOE"
"""Private coding scheme of the classes."""
FOREGROUND = 255
"""Value of glands in masks of two classes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", type=Path, required=True, help="a DICOM file of the slide; its series is used")
    parser.add_argument(
        "--mask", type=Path, required=True, help="mask of the slide, NAME_mask.ome.tif or NAME_mask.tif"
    )
    parser.add_argument("--output", type=Path, required=True, help="new file")
    parser.add_argument("--classes", nargs="+", default=["gland"], help="names of the classes (default: gland)")
    parser.add_argument("--max-megapixels", type=float, default=400.0, help="largest level to use (default: 400)")
    options = parser.parse_args(arguments)
    names = options.classes[1:] if options.classes[0].lower() == "background" else options.classes
    if not names or "" in names or len(set(names)) < len(names):
        parser.error("--classes needs a different name for each class; background may come first")
    if not options.max_megapixels > 0:
        parser.error("--max-megapixels must be above 0")
    options.classes = names
    try:
        import highdicom  # noqa: F401
    except ImportError:
        print("export_dicom_seg: highdicom is not installed; run pip install .[dicom]", file=sys.stderr)
        return 1
    from bundle.engines.error_summary import sentence

    try:
        print(export(options))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"export_dicom_seg: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


def export(options: argparse.Namespace) -> str:
    """Write the file and return a line about it.

    Raises:
        ValueError: if slide, mask and classes do not fit each other.
    """
    from highdicom.seg import segread

    from bundle.utils import atomic_path

    if options.output.exists():
        raise ValueError(f"{options.output} exists; give another --output")
    level = level_of(options.slide, options.max_megapixels * 1e6)
    size = (int(level.TotalPixelMatrixRows), int(level.TotalPixelMatrixColumns))
    mask = read_mask(options.mask, size, len(options.classes))
    try:
        segmentation = segmentation_of(mask, level, options.classes)
    except AttributeError as error:
        raise ValueError(f"the header of {options.slide} is not complete: {error}") from error
    with atomic_path(options.output) as partial:
        segmentation.save_as(partial)
        found = segread(partial).get_total_pixel_matrix(combine_segments=True)
        if not np.array_equal(found, mask):
            raise RuntimeError("the file differs from the mask when it is read back; nothing was written")
    shares = ", ".join(f"{name} {(mask == number).mean():.1%}" for number, name in enumerate(options.classes, start=1))
    return f"{options.output}: {size[1]} x {size[0]} px, {shares}"


def level_of(path: Path, most: float) -> Any:
    """Return the header of the largest level of a DICOM slide with at most ``most`` pixels.

    Raises:
        ValueError: if the file is no DICOM slide, or all levels are larger.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    headers = []
    for file in sorted(path.parent.iterdir()) if path.is_file() else []:  # DICOM files may have any suffix, or none
        if not file.is_file():
            continue
        try:
            headers.append((file, pydicom.dcmread(file, stop_before_pixels=True)))
        except (InvalidDicomError, OSError) as error:
            if file.name == path.name:
                raise ValueError(f"{path} is no DICOM file ({error}); give a file of the slide") from error
    series = [header.get("SeriesInstanceUID") for file, header in headers if file.name == path.name]
    if not series:
        raise FileNotFoundError(f"no DICOM file {path}; give --slide, a .dcm file of the slide")
    levels = {
        int(header.TotalPixelMatrixRows) * int(header.TotalPixelMatrixColumns): header
        for _, header in headers
        if header.get("SeriesInstanceUID") == series[0]
        and header.get("SOPClassUID") == MICROSCOPY
        and "VOLUME" in header.get("ImageType", [])
        and {"TotalPixelMatrixRows", "TotalPixelMatrixColumns"} <= set(header.dir())
    }
    if not levels:
        raise ValueError(f"{path} is no level of a whole slide in DICOM; give another --slide")
    if min(levels) > most:
        raise ValueError(
            f"the smallest level of {path} has {min(levels) / 1e6:.0f} megapixels; give a larger --max-megapixels"
        )
    return levels[max(size for size in levels if size <= most)]


def read_mask(path: Path, size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """Return the mask (H, W) at a size, with values 0 to ``classes``.

    Raises:
        ValueError: if it has another shape than the slide, or values of other classes.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            levels = file.series[0].levels
            whole = levels[0].shape
            fitting = [level for level in levels if level.shape[0] >= size[0] and level.shape[1] >= size[1]]
            mask = (fitting or levels)[-1 if fitting else 0].asarray()
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged TIFF raises errors of many classes
        raise ValueError(f"{path} is not a readable TIFF ({error}); give the mask of a slide") from error
    if len(whole) != 2 or abs(whole[0] * size[1] / (whole[1] * size[0]) - 1) > 0.01:
        raise ValueError(
            f"{path} has the shape {' x '.join(map(str, whole[::-1]))}, which is not that of the slide "
            f"({size[1]} x {size[0]} at the level used); give the mask of this slide"
        )
    rows, columns = (np.arange(to) * have // to for have, to in zip(mask.shape, size, strict=True))
    mask = mask[rows][:, columns] if mask.shape != size else mask
    values = set(np.unique(mask).tolist())
    if mask.dtype.kind not in "bui" or min(values) < 0:
        raise ValueError(f"{path} holds {mask.dtype} values, which are not classes; give the mask, not the probability")
    if classes == 1 and values <= {0, FOREGROUND}:
        mask, values = mask // FOREGROUND, {0}
    if max(values) > classes:
        raise ValueError(f"{path} has the value {max(values)}, but --classes names {classes}; name all classes")
    return mask.astype(np.uint8)


def segmentation_of(mask: NDArray[np.uint8], level: Any, names: Sequence[str]) -> Any:
    """Return the SEG object of a mask (H, W) with the pixel matrix of a level."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    version = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    algorithm = hd.AlgorithmIdentificationSequence(
        name="Semi-MoE", version=version, family=codes.DCM.ArtificialIntelligence
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=hd.sr.CodedConcept(str(number), SCHEME, name),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names, start=1)
    ]
    return hd.seg.Segmentation(
        source_images=[level],
        pixel_array=mask[None],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Semi-MoE",
        manufacturer_model_name="Semi-MoE",
        software_versions=version,
        device_serial_number="0",
        tile_pixel_array=True,
    )


if __name__ == "__main__":
    sys.exit(main())
