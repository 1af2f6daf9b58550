"""Sparse annotations under any method: what the pipeline hands over, and that nothing of it breaks a training."""

from __future__ import annotations

import math
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ignite.engine import Events
from monai.bundle import ConfigParser

from bundle.types import IGNORE

SPARSE: dict[str, Any] = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "configs" / "annotations" / "sparse.yaml").read_text(encoding="utf-8")
)
KEEP = "sparse_annotation#keep"
TARGETS = ("label", "sdf", "boundary")


@pytest.mark.parametrize("name", ["supervised", "semi_moe", "weak_teacher"])
@pytest.mark.parametrize("keep", [0, "50%"])
def test_a_method_trains_also_where_images_keep_no_gland(name, keep, method):
    setup = method(name, **SPARSE, **{KEEP: keep, "sparse_annotation#margin": 3, "validate#dataset#data": []})
    steps: list[dict[str, float]] = []
    setup.trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: steps.append({part: float(value.mean()) for part, value in engine.state.step.items()}),
    )
    setup.trainer.run()
    assert len(steps) == 2
    assert all(math.isfinite(value) for step in steps for value in step.values())
    assert all(value.isfinite().all() for value in setup.step.parameters())
    held = {part: step[part] for step in steps for part in step if part.startswith("labeled/") and "gate_" not in part}
    if keep == 0 and name != "weak_teacher":  # its teacher may be sure of a pixel
        assert set(held.values()) == {0.0}
    if keep != 0:
        assert all(value > 0.0 for value in held.values())


def test_what_is_left_of_every_target_is_that_of_the_full_label(method):
    """Same image, same crop: targets agree where they are known, and a good part of each is known."""
    full = method("semi_moe", **{"train#dataset#cache_rate": 0.0}).parser
    sparse = method("semi_moe", **SPARSE, **{KEEP: "50%", "train#dataset#cache_rate": 0.0}).parser
    counted = dict.fromkeys(TARGETS, 0)
    for entry in full.get_parsed_content("train#dataset#data"):
        setups = [
            parser.get_parsed_content("train#preprocessing").set_random_state(seed=0)(entry)
            for parser in (full, sparse)
        ]
        assert torch.equal(setups[0]["image"], setups[1]["image"])
        unknown = setups[1]["label"] == IGNORE
        for key in TARGETS:
            known = setups[1][key] != IGNORE
            assert not (known & unknown).any(), key
            assert torch.equal(setups[1][key][known], setups[0][key][known]), key
            counted[key] += int(known.sum())
    assert all(0 < count < 4 * 32 * 32 for count in counted.values()), counted
    assert counted["label"] > max(counted["sdf"], counted["boundary"])


def test_labels_are_drawn_once_and_kept_small(method):
    """They lie in the cache as they were drawn, in 8 bits, and another seed draws others."""
    cached = [method("supervised", **SPARSE, seed=seed).trainer.data_loader.dataset._cache for seed in (0, 0, 1)]
    labels = [[item["label"].as_tensor() for item in element] for element in cached]
    assert {label.dtype for label in labels[0]} <= {torch.int8, torch.uint8}
    assert any((label < 0).any() for label in labels[0])
    assert all(torch.equal(first, second) for first, second in zip(labels[0], labels[1], strict=True))
    assert not all(torch.equal(first, second) for first, second in zip(labels[0], labels[2], strict=True))


def test_masks_of_ones_own_may_hold_a_number_for_unknown(tiny, repository_root, tmp_path):
    """The overlay of docs/data.md, here with gland 2 of each tile as the unknown: it trains and is scored."""
    text = (repository_root / "docs" / "data.md").read_text(encoding="utf-8")
    section = text[text.index("Your own masks may mark unknown pixels") :]
    overlay = textwrap.dedent("".join(re.findall(r"^    .*\n", section[: section.index("This also applies to")], re.M)))
    assert "classes: 3" in overlay
    (tmp_path / "unknown.yaml").write_text(overlay.replace("classes: 3", "classes: null"), encoding="utf-8")
    names = [repository_root / "configs" / name for name in ("train.json", "methods/supervised.yaml")]
    parser = ConfigParser()
    parser.read_config([*map(str, names), str(tmp_path / "unknown.yaml")])
    parser.update(tiny | {"max_epochs": 1})
    trainer = parser.get_parsed_content("train#trainer")
    assert any((batch["label"] == IGNORE).any() for batch in trainer.data_loader)
    trainer.run()
    evaluator = parser.get_parsed_content("validate#evaluator")
    assert any((batch["label"] == IGNORE).any() for batch in evaluator.data_loader)
    assert all(0.0 <= value <= 1.0 for value in evaluator.state.metrics.values())


def test_validation_keeps_its_full_labels(method):
    setup = method("supervised", **SPARSE)
    evaluator = setup.parser.get_parsed_content("validate#evaluator")
    for batch in evaluator.data_loader:
        assert set(batch["label"].unique().tolist()) <= {0, 1}
    setup.trainer.run()
    assert 0.0 <= evaluator.state.metrics["mean_dice"] <= 1.0


def test_the_losses_are_those_of_the_full_labels_where_all_is_known(method):
    """The overlay changes the losses; with every pixel known they must be what they were."""
    full, sparse = method("semi_moe"), method("semi_moe", **SPARSE)
    labeled, _ = full.batches()
    heads = full.network.heads(labeled["image"])
    for head, target in (("seg", "label"), ("boundary", "boundary")):
        was, now = (setup.parser.get_parsed_content(f"train#loss_{head}")(heads[head], labeled[target]).item()
                    for setup in (full, sparse))  # fmt: skip
        assert was == pytest.approx(now, abs=1e-6)


def test_losses_of_methods_ignore_unknown_pixels(repository_root):
    """Overlays may stand in any order, so a method sets no loss of MONAI's, which would count unknown pixels."""
    for path in sorted((repository_root / "configs" / "methods").glob("*.yaml")):
        overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
        changed = {key.split("#")[1]: value for key, value in overlay.items() if key.startswith("train#loss_")}
        assert changed.keys() <= {"loss_seg"}, path.name
        assert "loss_seg" not in changed or changed["loss_seg"]["_target_"] == "bundle.losses.Dice", path.name


@pytest.mark.parametrize(
    ("change", "message"), [({}, "share of annotated glands"), ({"method": "entropy", **SPARSE}, "another method")]
)
def test_a_training_is_not_resumed_with_other_labels_or_another_method(change, message, method):
    first = method("supervised", **SPARSE, **{KEEP: "50%"})
    first.parser.get_parsed_content("train#resume_file").attach(first.trainer)
    first.trainer.run()
    if SPARSE.keys() <= change.keys():
        change = change | {KEEP: "50%"}
    other = method("supervised", **change, max_epochs=2, resume=True)
    with pytest.raises(ValueError, match=message):
        other.parser.get_parsed_content("train#resume_file").attach(other.trainer)
