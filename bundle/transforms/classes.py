"""More than two classes: from the label, from the grade of an image, and as the specialist of each class sees them."""

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
    """Class indices of a label map whose values are class indices.

    Args:
        label: class indices, array or tensor of any shape; below 0 unknown.

    Returns:
        The same shape and kind of array, uint8; ``IGNORE`` where nothing is known.
    """
    values = torch.as_tensor(label).int()  # small types hold no IGNORE
    return convert_to_dst_type(values.masked_fill(values < 0, IGNORE), label, dtype=np.uint8)[0]


class ClassIndexd(MapTransform):
    """Dictionary transform for label maps whose values are class indices already; see :func:`class_index`.

    It stands in the place of ``ForegroundClassd``, which would melt the classes.
    """

    def __init__(self, keys: KeysCollection = LABEL, allow_missing_keys: bool = False) -> None:
        """Make the transform.

        Args:
            keys: class indices (1, H, W), checked by the reader; below 0 unknown.
            allow_missing_keys: whether a record may lack them (unlabeled images).
        """
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with class indices (1, H, W) uint8, ``IGNORE`` where nothing is known."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = class_index(record[key])
        return record


class ClassFromGraded(MapTransform):
    """Dictionary transform that gives all glands of an image the class of the image's grade.

    Sets such as GlaS grade images (benign, malignant) and number glands; the product of both is a map of classes. Place
    it where ``ForegroundClassd`` would stand: after the targets that tell glands apart, which it melts. The grade is
    taken from the record, so that images with and without a grade lie in one batch.
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
            keys: label maps (1, H, W), 0 background, any number above a gland, any below unknown.
            grades: grade as the data list has it -> class index, 1 or above; several grades may share a class.
            grade_key: key of the record that holds the grade.
            allow_missing_keys: whether a record may lack the label (unlabeled images); then it needs no grade either.

        Raises:
            ValueError: without grades, or for an index that is no foreground class.
        """
        super().__init__(keys, allow_missing_keys)
        self.grades = dict(grades or {})
        if not self.grades or not all(0 < index < IGNORE for index in self.grades.values()):
            raise ValueError(f"grades are {self.grades}; give each a class index from 1 to {IGNORE - 1}")
        self.grade_key = grade_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with class indices (1, H, W) uint8 in place of the label map, without its grade.

        Raises:
            ValueError: for a labeled image without grade, or with one that has no class.
        """
        record = dict(data)
        grade = record.pop(self.grade_key, None)
        for key in self.key_iterator(record):
            if grade not in self.grades:
                raise ValueError(
                    f"the grade of a labeled image is {grade!r}, and classes are known for {', '.join(self.grades)}; "
                    f"name it in the data list (key {self.grade_key!r}), or give it a class (grades)"
                )
            record[key] = _with_class(foreground_class(record[key]), self.grades[grade])
        return record


class SpecialistTargetsd(MapTransform):
    """Dictionary transform that adds, for the specialist of each class, what it is held to; see ``as_specialist``.

    The targets of Collaborative Generalist and Specialists (Wang et al. 2025, arXiv 2504.00862): background, the
    specialist's own class, every other foreground class. Place it after the transform that makes class indices.
    """

    def __init__(self, keys: KeysCollection = LABEL, classes: int = 3, allow_missing_keys: bool = False) -> None:
        """Make the transform.

        Args:
            keys: class indices (1, H, W), tensors; ``IGNORE`` stays.
            classes: number of classes, background counted; one target for each of 1 to ``classes - 1``.
            allow_missing_keys: whether a record may lack the label (unlabeled images).
        """
        super().__init__(keys, allow_missing_keys)
        self.classes = classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with ``specialist_1``, ``specialist_2``, ..., (1, H, W) each, as the label."""
        record = dict(data)
        for key in self.key_iterator(record):
            for own in range(1, self.classes):
                record[f"{SPECIALIST}{own}"] = as_specialist(record[key], own)
        return record


def _with_class(foreground: NdarrayOrTensor, index: int) -> NdarrayOrTensor:
    """Foreground (0, 1 and perhaps ``IGNORE``) with ``index`` in place of 1."""
    values = torch.as_tensor(foreground)
    return convert_to_dst_type(values.masked_fill(values == 1, index), foreground)[0]
