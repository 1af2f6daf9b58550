"""Montage of a validation: files, columns, sizes, and an unchanged network."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from PIL import Image
from torch import Tensor, nn

from bundle.handlers import ValidationMontage, drawing

ROOT = Path(__file__).resolve().parents[2]


class PlainNetwork(nn.Module):
    """Network that predicts bright pixels as foreground and records input shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, 2, H, W)."""
        assert not self.training
        self.shapes.append(tuple(image.shape))
        bright = self.scale * image.mean(dim=1, keepdim=True)
        return torch.cat([-bright, bright], dim=1)


class GatedNetwork(PlainNetwork):
    """The same network with all heads of a mixture of two experts."""

    def heads(self, image: Tensor) -> dict[str, Tensor]:
        """Return all maps, and gate weights (B, 2)."""
        seg = self(image)
        gates = torch.tensor([[0.25, 0.75]]).expand(image.shape[0], 2)
        maps = {"seg": -seg, "fused_seg": seg, "sdf": seg[:, 1:], "fused_boundary": seg}
        return maps | {"gate_seg": gates, "gate_boundary": gates}


def item(size: tuple[int, int], label_size: tuple[int, int], name: str = "slide_7.png") -> dict[str, Any]:
    """An image with a bright left half, and a label with a foreground left half, optionally of another size."""
    image = torch.full((3, *size), -1.0)
    image[:, :, : size[1] // 2] = 1.0
    label = torch.zeros(1, *label_size, dtype=torch.long)
    label[:, :, : label_size[1] // 2] = 1
    return {"image": MetaTensor(image, meta={"filename_or_obj": f"/data/{name}"}), "label": label}


def validate(montage: ValidationMontage, batches: list[Any], epoch: int = 1) -> None:
    """Run an evaluator that does nothing, as in the validation of epoch ``epoch``."""
    engine = Engine(lambda engine, batch: None)
    montage.attach(engine)
    engine.load_state_dict({"epoch": epoch - 1, "max_epochs": epoch, "epoch_length": len(batches)})
    engine.run(batches)


def montage_of(network: nn.Module, folder: Path, **changes: Any) -> ValidationMontage:
    """Return a montage for two experts with small cells."""
    settings: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.25] * 3, "experts": ["seg", "sdf"], "cell": 96}
    settings["width_first"] = False  # the made images are (3, H, W)
    return ValidationMontage(network, folder, **(settings | changes))


def opened(path: Path) -> np.ndarray:
    """Read the pixels (H, W, 3) of a file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def near(picture: np.ndarray, color: Any) -> np.ndarray:
    """Return the mask of pixels with about a color, which the palette changes."""
    return (np.abs(picture.astype(int) - color) < 24).all(axis=-1)


def axes_of(panel: Any) -> Axes:
    """Draw a panel on axes of its own."""
    axes = Figure().add_subplot()
    panel(axes)
    return axes


def test_a_network_with_gates_gets_all_columns(tmp_path: Path) -> None:
    """Five columns, three rows from four images in two batches, and a label of twice the size."""
    (tmp_path / ".montage_0012.png.0a1b2c3d.partial").touch()  # of a killed run
    network = GatedNetwork().train()
    montage = montage_of(network, tmp_path, image_count=3)
    batches = [[item((40, 50), (80, 100)), item((32, 32), (32, 32))], [item((24, 90), (24, 90))] * 2]
    validate(montage, batches, epoch=12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["montage_0012.png", "montage_latest.png"]
    picture = opened(tmp_path / "montage_0012.png")
    assert picture.shape[1] == 8 + 5 * (96 + 8)
    # 40 x 50 -> 32 x 48 shown, 24 x 90 -> 16 x 80: cells 64, 96 and 19 px high
    assert picture.shape[0] == 58 + 3 * (22 + 8) + 64 + 96 + 19
    assert network.shapes == [(1, 3, 32, 48), (1, 3, 32, 32), (1, 3, 16, 80)]
    assert network.training
    for color in (drawing.TRUTH, drawing.PREDICTION, drawing.EXPERT_COLORS[1]):
        assert near(picture[58:], color).sum() > 10, "below the legend"
    latest = (tmp_path / "montage_latest.png").read_bytes()
    assert (tmp_path / "montage_0012.png").read_bytes() == latest
    validate(montage_of(network, tmp_path, image_count=3, title="validation, epoch 12"), batches, epoch=13)
    assert (tmp_path / "montage_0013.png").read_bytes() == latest, "equal input, equal bytes"


def test_a_plain_network_gets_what_it_has(tmp_path: Path) -> None:
    """Two columns, no label, a fixed name."""
    unlabeled = {"image": item((32, 32), (32, 32))["image"]}
    validate(montage_of(PlainNetwork(), tmp_path, name="sheet.png"), [[unlabeled]])
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert opened(tmp_path / "sheet.png").shape[1] == 8 + 2 * (96 + 8)


def test_rows_show_the_center_and_its_dice(tmp_path: Path) -> None:
    """The fused head is right, the expert wrong; large images are cropped, small ones padded."""
    montage = montage_of(GatedNetwork(), tmp_path, largest_side=64)
    caption, pictures = montage._row(item((100, 200), (50, 100)))
    assert caption.split() == ["slide_7.png", "64", "x", "64", "px", "Dice", "1.000"]
    assert list(pictures) == ["image", "fused_seg", "sdf", "fused_boundary", "gate weights"]
    left, right = pictures["image"][48, 10], pictures["image"][48, 86]
    assert (left == 191).all()
    assert (right == 64).all()
    assert (pictures["fused_seg"][48, 47] == drawing.PREDICTION).all()
    assert (pictures["fused_seg"][48, 48] == drawing.TRUTH).all(), "wider than the contour of the prediction"
    distance, boundary = (axes_of(pictures[column]) for column in ("sdf", "fused_boundary"))
    assert [axes.images[0].get_clim() for axes in (distance, boundary)] == [(-1, 1), (0, 1)]
    np.testing.assert_allclose(distance.images[0].get_array()[32, [10, 54]], np.tanh([1, -1]), rtol=1e-6)
    np.testing.assert_allclose(boundary.images[0].get_array()[32, 10], 1 / (1 + np.exp(-2)), rtol=1e-6)
    (zero,) = distance.collections[0].get_paths()
    assert (zero.vertices[:, 0] == 31.5).all(), "between the halves of 32 px"
    (bars,) = axes_of(pictures["gate weights"]).child_axes
    assert [bar.get_width() for bar in bars.containers[1]] == [0.25, 0.75] * 2
    assert [label.get_text() for label in bars.get_yticklabels()] == ["seg", "sdf"] * 2
    assert [text.get_text() for text in bars.texts] == ["0.25", "0.75"] * 2 + ["seg", "boundary"]
    assert montage._row(item((7, 5), (7, 5)))[0].split()[1:4] == ["16", "x", "16"]


def test_a_sheet_keeps_pixels_and_names_of_any_letters() -> None:
    """Photos are not resampled; contours of few pixels keep their color; a map without the level has no contour."""
    random = np.random.default_rng(0)
    photo = random.integers(60, 200, (50, 70, 3), dtype=np.uint8)
    photo[20:23, 20:30] = drawing.TRUTH
    level = partial(drawing.draw_map, values=np.ones((5, 7)), colors="RdBu_r", low=-1, high=1, level=0)
    sheet = drawing.sheet("$x_{", ["a$b", "c"], [("\u4e2d.png", [photo, level]), ("\udce9 $", [photo, level])], 70)
    for top in (58 + 22, 58 + 22 + 50 + 8 + 22):
        assert (sheet[top + 1 : top + 49, 9:77] == photo[1:-1, 1:-1]).all()
    assert near(np.asarray(drawing.in_palette(sheet).convert("RGB"))[101:103, 29:37], drawing.TRUTH).all()
    assert not axes_of(level).collections


def test_names_matplotlib_if_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the handler is built, not after the first epochs."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RuntimeError, match="needs matplotlib, which is missing"):
        montage_of(PlainNetwork(), tmp_path)


def test_one_hot_labels_are_read(tmp_path: Path) -> None:
    """Two channels, as after postprocessing."""
    first = item((32, 32), (32, 32))
    first["label"] = torch.cat([1 - first["label"], first["label"]])
    assert montage_of(PlainNetwork(), tmp_path)._row(first)[0].endswith("Dice 1.000")


def test_refuses_gates_of_other_experts(tmp_path: Path) -> None:
    """Two weights, three names."""
    with pytest.raises(ValueError, match="experts"):
        montage_of(GatedNetwork(), tmp_path, experts=["seg", "sdf", "boundary"])._row(item((32, 32), (32, 32)))


def test_works_in_an_evaluator_with_its_loader(tmp_path: Path) -> None:
    """With MONAI's engine, collated batches of two, the epoch of the trainer, and TensorBoard."""

    class Writer:
        def add_image(self, name: str, picture: np.ndarray, epoch: int, dataformats: str) -> None:
            self.found = (name, picture.shape[2], epoch, dataformats)

    network, writer = PlainNetwork(), Writer()
    items = [item((32, 32), (32, 32), f"{number}.png") for number in range(3)]
    montage = montage_of(network, tmp_path, writer=writer)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=network,
        val_handlers=[montage],
    )
    for epoch in (3, 6):
        evaluator.run(epoch)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["montage_0003.png", "montage_0006.png", "montage_latest.png"]
    assert writer.found == ("montage", 3, 6, "HWC")
    assert opened(tmp_path / "montage_0003.png").shape[0] == 58 + 3 * (22 + 8 + 96)


def test_dice_of_empty_masks_is_one(tmp_path: Path) -> None:
    """The prediction is the left half; of a label shifted by half of it, half is right."""
    montage, first = montage_of(PlainNetwork(), tmp_path), item((32, 32), (32, 32))
    first["label"] = first["label"].roll(8, dims=2)
    assert montage._row(first)[0].endswith("Dice 0.500")
    first["label"].zero_()
    assert montage._row(first)[0].endswith("Dice 0.000")
    first["image"].fill_(-1.0)
    assert montage._row(first)[0].endswith("Dice 1.000")


def test_the_title_says_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    sheet = drawing.sheet
    monkeypatch.setattr(drawing, "sheet", lambda title, *rest: titles.append(title) or sheet(title, *rest))
    first = item((32, 32), (32, 32))
    validate(montage_of(PlainNetwork(), tmp_path), [[first]], epoch=7)
    evaluated = json.loads((ROOT / "configs" / "evaluate.json").read_text())["validate#handlers"]
    (settings,) = [handler for handler in evaluated if "Montage" in handler["_target_"]]
    validate(montage_of(PlainNetwork(), tmp_path, title=settings["title"]), [[first]])
    assert titles == ["validation, epoch 7", "test images"]
