"""Class indices for more than two classes: from the label or the grade of an image, and for specialist heads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.transforms.transform import MapTransform
from monai.utils import convert_to_dst_type

from bundle.transforms.targets import foreground_class
from bundle.types import IGNORE, LABEL, SPECIALIST, as_specialist


def class_index(label: NdarrayOrTensor) -> NdarrayOrTensor:
    """Replace unknown pixels of a map of class indices by ``IGNORE``.

    Args:
        label: class indices, array or tensor of any shape; values below 0 are unknown.

    Returns:
        Array of the same shape and type, uint8; ``IGNORE`` at unknown pixels.
    """
    values = torch.as_tensor(label).int()  # int8 cannot hold IGNORE
    return convert_to_dst_type(values.masked_fill(values < 0, IGNORE), label, dtype=np.uint8)[0]


class ClassIndexd(MapTransform):
    """Dictionary transform for label maps whose values are class indices; see :func:`class_index`.

    It replaces ``ForegroundClassd``, which would merge the classes.
    """

    def __init__(self, keys: KeysCollection = LABEL, allow_missing_keys: bool = False) -> None:
        """Make the transform.

        Args:
            keys: class indices (1, H, W), checked by the reader; values below 0 are unknown.
            allow_missing_keys: whether a record may lack them (unlabeled images).
        """
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with class indices (1, H, W), uint8, ``IGNORE`` at unknown pixels."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = class_index(record[key])
        return record


class ClassFromGraded(MapTransform):
    """Dictionary transform that labels all glands of an image with the class of the image's grade.

    Data sets such as GlaS have a grade for each image (benign, malignant) and instance masks of glands. Place it
    instead of ``ForegroundClassd``, after the targets that need instances, because it merges them. The grade is removed
    from the record, so that images with and without a grade can be in one batch.
    """

    def __init__(
        self,
        keys: KeysCollection = LABEL,
        grades: Mapping[str, int] | None = None,
        grade_key: str = "grade",
        allow_missing_keys: bool = False,
    ) -> None:
        """Make the transform.

        Args:
            keys: label maps (1, H, W); 0 is background, values above 0 are glands, values below 0 unknown.
            grades: grade in the data list -> class index, 1 or above; several grades may share a class.
            grade_key: key of the grade in the record.
            allow_missing_keys: whether a record may lack the label (unlabeled images); then it needs no grade either.

        Raises:
            ValueError: if ``grades`` is empty or an index is not a foreground class.
        """
        super().__init__(keys, allow_missing_keys)
        self.grades = dict(grades or {})
        if not self.grades or not all(0 < index < IGNORE for index in self.grades.values()):
            raise ValueError(f"grades are {self.grades}; give each grade a class index from 1 to {IGNORE - 1}")
        self.grade_key = grade_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with class indices (1, H, W), uint8, as label and without the grade.

        Raises:
            ValueError: if a labeled image has no grade or one without a class.
        """
        record = dict(data)
        grade = record.pop(self.grade_key, None)
        for key in self.key_iterator(record):
            if grade not in self.grades:
                raise ValueError(
                    f"the grade of a labeled image is {grade!r}, and classes are known for {', '.join(self.grades)}; "
                    f"set it in the data list (key {self.grade_key!r}), or give it a class (grades)"
                )
            record[key] = _with_class(foreground_class(record[key]), self.grades[grade])
        return record


class SpecialistTargetsd(MapTransform):
    """Dictionary transform that adds the target of each specialist head; see ``as_specialist``.

    The targets of Collaborative Generalist and Specialists (Wang et al. 2025, arXiv 2504.00862): background, the
    specialist's own class, all other foreground classes. Place it after the transform that makes class indices.
    """

    def __init__(self, keys: KeysCollection = LABEL, classes: int = 3, allow_missing_keys: bool = False) -> None:
        """Make the transform.

        Args:
            keys: class indices (1, H, W), tensors; ``IGNORE`` is kept.
            classes: number of classes, background included; one target for each of 1 to ``classes - 1``.
            allow_missing_keys: whether a record may lack the label (unlabeled images).
        """
        super().__init__(keys, allow_missing_keys)
        self.classes = classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with ``specialist_1``, ``specialist_2``, ..., each (1, H, W) like the label."""
        record = dict(data)
        for key in self.key_iterator(record):
            for own in range(1, self.classes):
                record[f"{SPECIALIST}{own}"] = as_specialist(record[key], own)
        return record


def _with_class(foreground: NdarrayOrTensor, index: int) -> NdarrayOrTensor:
    """Replace 1 by ``index`` in a foreground mask (0, 1 and ``IGNORE``)."""
    values = torch.as_tensor(foreground)
    return convert_to_dst_type(values.masked_fill(values == 1, index), foreground)[0]
