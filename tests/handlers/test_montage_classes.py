"""Class column of the validation montage, only for more than two classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bundle.handlers import ValidationMontage, drawing


class Thirds(nn.Module):
    """Network that predicts background on the left, class 1 in the middle and class 2 on the right."""

    def forward(self, image: Tensor) -> Tensor:
        classes = torch.arange(image.shape[-1]) * 3 // image.shape[-1]
        logits = nn.functional.one_hot(classes, 3).T.float()[None, :, None]
        return 9.0 * logits.expand(len(image), 3, *image.shape[2:])


def test_areas_show_the_predicted_class_and_contours_the_true_one(tmp_path: Path) -> None:
    montage = ValidationMontage(Thirds(), tmp_path, [0.5] * 3, [0.25] * 3, cell=96, width_first=False)
    truth = torch.zeros(1, 96, 96, dtype=torch.uint8)
    truth[:, 32:64, 32:] = 2
    _, pictures = montage._row({"image": torch.zeros(3, 96, 96), "label": truth})
    assert list(pictures) == ["image", "seg", "classes"]
    shown = pictures["classes"].astype(int)
    first, second = (np.array(drawing.class_color(index)) for index in (1, 2))
    gray = pictures["image"][5, 5].astype(int)
    assert (shown[48, 10] == gray).all()
    assert np.abs(shown[5, 48] - (0.4 * gray + 0.6 * first)).max() <= 1
    assert np.abs(shown[5, 90] - (0.4 * gray + 0.6 * second)).max() <= 1
    assert (shown[32, 48] == second).all()  # the true class where another is predicted
    assert (shown[48, 32] == second).all()
    assert [text for text, _ in montage._class_key] == ["class 1", "class 2"]


def test_class_colors_are_no_color_of_contours() -> None:
    colors = {drawing.class_color(index) for index in range(1, 6)}
    assert len(colors) == 5
    assert not colors & {drawing.TRUTH, drawing.PREDICTION}
    assert drawing.class_color(6) == drawing.class_color(1)
