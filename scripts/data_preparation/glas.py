"""GlaS (Warwick-QU): glands of the colon in H&E, the data set of the MICCAI 2015 challenge.

Sirinukunwattana et al., "Gland segmentation in colon histology images: the GlaS challenge contest", Medical Image
Analysis 35, 2017, doi 10.1016/j.media.2016.08.008. 165 images of 16 patients, most 775 x 522 px, with instance masks
in which glands touch. The official training and test images share patients. For research only, no commercial use; the
terms ask to cite that paper and Sirinukunwattana et al., "A stochastic polygons model for glandular structures in colon
histology images", IEEE Transactions on Medical Imaging 2015, doi 10.1109/TMI.2015.2433900.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.data.image_io.pictures import check_pair
from bundle.data.lists import LARGEST_MPP
from bundle.data.message_text import join_names
from bundle.data.splits import PERCENTS, draw_split, heldout_lists, patient_folds
from scripts.data_preparation.folder_writer import Progress, check_new, natural_order, write_set

LICENSE = (
    "GlaS is for research only, no commercial use; cite Sirinukunwattana et al., Medical Image Analysis 2017, "
    "doi 10.1016/j.media.2016.08.008, and IEEE TMI 2015, doi 10.1109/TMI.2015.2433900."
)
"""Terms of the data set in one sentence, shown when it is prepared."""
COUNTS = {"train": 85, "testA": 60, "testB": 20}
"""Number of images in each official part; their names are ``train_1``, ``train_2``, and so on."""
TRAIN_GRADES = {"benign": 37, "malignant": 48}
"""Number of training images of each grade."""
PIXEL_SIZE = 0.62
"""Width of a pixel in um, from the challenge website (20x, 0.62005); some papers use 0.465."""
DOMAIN = "warwick"
VALIDATION_PATIENTS = ("4", "5", "6", "8", "11")
"""Validation patients of the 85 training images: 8 benign and 9 malignant images."""
SEEDS = (0, 1, 2)
FOLDS = 3
SUFFIXES = (".png", ".bmp")
SPLITS = Path(__file__).with_name("glas_splits.json")
"""The published splits as image names, made by ``scripts/dev/make_splits.py``."""


@dataclass(frozen=True)
class GlasImage:
    """Files of one image of GlaS: 8-bit RGB, and a mask of the same size, 0 background and 1..N glands."""

    name: str
    image: Path
    mask: Path
    patient: str
    grade: str

    def entry(self, mpp: float) -> dict[str, Any]:
        """Return the data list entry, with the paths that ``prepare_glas`` writes; ``mpp`` in um/px."""
        return glas_entry(self.name, self.patient, self.grade) | {"mpp": mpp}


def glas_entry(name: str, patient: str, grade: str) -> dict[str, Any]:
    """Return the data list entry of an image, without ``mpp``."""
    paths = {"image": f"image/{name}.png", "label": f"label/{name}.png"}
    return paths | {"patient": patient, "grade": grade, "domain": DOMAIN}


def expected_names() -> list[str]:
    """Return the names of the 165 images, ``train_1`` first."""
    return [f"{part}_{number}" for part, count in COUNTS.items() for number in range(1, count + 1)]


def read_grades(path: str | Path) -> dict[str, tuple[str, str]]:
    """Read ``Grade.csv``: name -> (patient, grade), in the order of ``expected_names``.

    Spaces around column names and cells are removed, because the official file has them.

    Raises:
        FileNotFoundError: if the file does not exist or rows are missing.
        ValueError: if a column is missing, or the training images are not 37 benign and 48 malignant.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}; give the Grade.csv of the GlaS download")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = [{str(key).strip(): str(cell).strip() for key, cell in row.items()} for row in csv.DictReader(file)]
    columns = {"name", "patient ID", "grade (GlaS)"}
    if not rows or not columns <= set(rows[0]):
        raise ValueError(f"{path} lacks a column of {', '.join(sorted(columns))}; give the Grade.csv of the download")
    grades_by_name = {row["name"]: (row["patient ID"], row["grade (GlaS)"]) for row in rows}
    _refuse_missing([name for name in expected_names() if name not in grades_by_name], f"rows of {path}")
    grades = {name: grades_by_name[name] for name in expected_names()}
    counts = Counter(grade for name, (_, grade) in grades.items() if name.startswith("train_"))
    if counts != TRAIN_GRADES:
        raise ValueError(f"{path} has training grades {dict(counts)}, not {TRAIN_GRADES}; use the official file")
    return grades


def check_glas(source: str | Path) -> list[GlasImage]:
    """Check a folder of GlaS, official ``.bmp`` or ``.png``, and list its 165 images.

    Args:
        source: folder with ``train_1.bmp``, ``train_1_anno.bmp``, ... and ``Grade.csv``.

    Raises:
        FileNotFoundError: if the folder, ``Grade.csv``, an image or a mask is missing.
        ValueError: if ``Grade.csv`` is not the official one, a file is not a picture, or a mask and its image differ in
            size.
    """
    folder = Path(source).expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; give --source, the folder that holds train_1.bmp and Grade.csv")
    if not (folder / "Grade.csv").is_file():
        raise FileNotFoundError(f"no Grade.csv in {folder}; give the folder of the GlaS download that contains it")
    grades = read_grades(folder / "Grade.csv")
    files = {file.name.lower(): file for file in sorted(folder.iterdir())}
    images = {name: _find(files, name) for name in grades}
    masks = {name: _find(files, f"{name}_anno") for name in grades}
    _refuse_missing([name for name in grades if images[name] is None], f"images of {folder}")
    _refuse_missing([f"{name}_anno" for name in grades if masks[name] is None], f"masks of {folder}")
    glas_images = []
    for name, (patient, grade) in grades.items():
        image, mask = images[name], masks[name]
        assert image is not None
        assert mask is not None
        glas_images.append(GlasImage(name, image, mask, patient, grade))
        check_pair(image, mask)
    return glas_images


def _find(files: Mapping[str, Path], stem: str) -> Path | None:
    names = [f"{stem}{suffix}".lower() for suffix in SUFFIXES]
    return next((files[name] for name in names if name in files), None)


def _refuse_missing(names: list[str], what: str) -> None:
    if names:
        raise FileNotFoundError(
            f"{len(names)} {what} are missing ({join_names(names)}); extract the GlaS download again"
        )


def draw_glas_splits(grades: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Draw the published splits from the grades: protocol -> split, as returned by ``splits.draw_split``.

    ``heldout`` uses the images of ``VALIDATION_PATIENTS`` for validation, ``authors`` has no validation, and ``fold0``,
    ``fold1`` and ``fold2`` use one of three folds by patient.
    """
    entries = [glas_entry(name, *grade) for name, grade in grades.items() if name.startswith("train_")]
    held = [index for index, entry in enumerate(entries) if entry["patient"] in VALIDATION_PATIENTS]
    splits = {
        "heldout": draw_split(entries, held, PERCENTS, SEEDS),
        "authors": draw_split(entries, [], PERCENTS, SEEDS),
    }
    for number, fold in enumerate(patient_folds(entries, FOLDS)):
        splits[f"fold{number}"] = draw_split(entries, fold, PERCENTS, SEEDS[:1])
    return splits


def glas_lists(images: Iterable[GlasImage], mpp: float = PIXEL_SIZE) -> dict[str, Any]:
    """Return all data lists of GlaS from the published splits: file name -> data list; ``mpp`` in um/px."""
    images = list(images)
    train = [image.entry(mpp) for image in images if image.name.startswith("train_")]
    test = [image.entry(mpp) for image in images if not image.name.startswith("train_")]
    splits = json.loads(SPLITS.read_text(encoding="utf-8"))
    lists: dict[str, Any] = {}
    for protocol, split in splits.items():
        lists |= heldout_lists(train, test, split, protocol)
    return lists


def prepare_glas(
    source: str | Path, output: str | Path, mpp: float = PIXEL_SIZE, progress: Progress | None = None
) -> list[str]:
    """Write a data folder of GlaS: ``image/NAME.png``, instance masks ``label/NAME.png``, and the data lists.

    Pixels are not changed: PNG is copied, BMP is written as PNG. The folder is created only when it is complete.

    Args:
        source: folder of GlaS, see ``check_glas``.
        output: folder to create; may exist if it is empty.
        mpp: width of a pixel, um.
        progress: called after each image.

    Returns:
        File names of the data lists, sorted.

    Raises:
        FileNotFoundError: as ``check_glas``.
        ValueError: as ``check_glas``; or if ``output`` is not empty, ``mpp`` is not above 0, a picture is damaged, or a
            mask has colors.
    """
    if not 0 < mpp <= LARGEST_MPP:
        raise ValueError(f"mpp is {mpp}; give the width of a pixel in um, above 0 and at most {LARGEST_MPP}")
    check_new(output)
    images = check_glas(source)
    lists = glas_lists(images, mpp)
    write_set(output, {image.name: (image.image, image.mask) for image in images}, lists, progress)
    return natural_order(lists)
