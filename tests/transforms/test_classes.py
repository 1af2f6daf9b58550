"""Class indices from labels and grades, and targets of specialists."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from bundle.transforms import Boundaryd, ClassFromGraded, ClassIndexd, SpecialistTargetsd, class_index
from bundle.types import IGNORE, as_specialist

LABEL = torch.tensor([[[0, 1, 1], [7, 7, 0], [-1, 300, 0]]], dtype=torch.int32)
"""Glands 1, 7 and 300, and one unknown pixel."""
GRADES = {"benign": 1, "malignant": 2, "poor": 2}


@pytest.mark.parametrize(("grade", "index"), [("benign", 1), ("malignant", 2), ("poor", 2)])
def test_every_gland_has_the_class_of_its_images_grade(grade: str, index: int) -> None:
    record = {"label": MetaTensor(LABEL, meta={"filename_or_obj": "a.png"}), "grade": grade, "image": 0}
    result = ClassFromGraded(grades=GRADES)(record)
    expected = [[0, index, index], [index, index, 0], [IGNORE, index, 0]]
    assert result["label"][0].tolist() == expected
    assert result["label"].dtype == torch.uint8
    assert result["label"].meta["filename_or_obj"] == "a.png"
    assert list(result) == ["label", "image"]  # batches may mix images with and without a grade
    assert record["grade"] == grade
    assert torch.equal(record["label"], LABEL)


def test_a_boundary_is_made_before_glands_are_merged() -> None:
    touching = torch.tensor([[[1, 1, 2, 2, 2, 2]]])
    record = ClassFromGraded(grades=GRADES)(Boundaryd(radius=1)({"label": touching, "grade": "malignant"}))
    assert record["boundary"][0, 0].tolist() == [0, 1, 1, 0, 0, 0]
    assert record["label"][0, 0].tolist() == [2] * 6


@pytest.mark.parametrize("record", [{}, {"grade": "dysplastic"}])
def test_a_labeled_image_without_a_known_grade_is_refused(record: dict) -> None:
    with pytest.raises(ValueError, match=r"grade of a labeled image is .*known for benign, malignant, poor"):
        ClassFromGraded(grades=GRADES)({"label": LABEL, **record})


def test_unlabeled_images_need_no_grade() -> None:
    transform = ClassFromGraded(grades=GRADES, allow_missing_keys=True)
    assert transform({"image": 0}) == transform({"image": 0, "grade": "odd"}) == {"image": 0}


@pytest.mark.parametrize("grades", [None, {}, {"benign": 0}, {"benign": 255}])
def test_grades_need_foreground_classes(grades: dict | None) -> None:
    with pytest.raises(ValueError, match="class index from 1 to 254"):
        ClassFromGraded(grades=grades)


def test_labels_of_classes_are_unchanged() -> None:
    label = torch.tensor([[[0, 2, 1], [-1, 3, 0]]], dtype=torch.int8)
    result = ClassIndexd()({"label": label})["label"]
    assert result[0].tolist() == [[0, 2, 1], [IGNORE, 3, 0]]
    assert result.dtype == torch.uint8
    assert class_index(label.float().numpy())[0].tolist() == result[0].tolist()
    assert ClassIndexd(allow_missing_keys=True)({"image": 0}) == {"image": 0}


def test_specialists_see_their_own_class_and_the_others() -> None:
    classes = torch.tensor([[[0, 1, 2], [3, IGNORE, 1]]], dtype=torch.uint8)
    record = SpecialistTargetsd(classes=4)({"label": classes})
    assert list(record) == ["label", "specialist_1", "specialist_2", "specialist_3"]
    assert record["specialist_1"][0].tolist() == [[0, 1, 2], [2, IGNORE, 1]]
    assert record["specialist_2"][0].tolist() == [[0, 2, 1], [2, IGNORE, 2]]
    assert record["specialist_3"][0].tolist() == [[0, 2, 2], [1, IGNORE, 2]]
    assert torch.equal(record["label"], classes)
    assert all(record[f"specialist_{own}"].dtype == torch.uint8 for own in (1, 2, 3))
    assert SpecialistTargetsd(allow_missing_keys=True)({"image": 0}) == {"image": 0}


def test_class_indices_of_any_integer_type() -> None:
    assert as_specialist(torch.tensor([0, 1, 2]), 2).tolist() == [0, 2, 1]
