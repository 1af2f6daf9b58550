"""Dictionary transforms of both postprocessing methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.inference import (
    ComponentInstancesd,
    ForegroundProbabilityd,
    WatershedInstancesd,
    component_instances,
    watershed_instances,
)


@pytest.fixture
def record() -> dict:
    """Return two touching glands separated by a boundary, in a map with different width and height."""
    mask = torch.zeros(1, 10, 24)
    mask[:, 2:8, 2:22] = 1
    wall = torch.zeros(1, 10, 24)
    wall[:, :, 12] = 0.9
    meta = {"filename_or_obj": "tile.png"}
    maps = {"pred": mask, "pred_sdf": mask - 0.5, "pred_boundary": wall}
    return {name: MetaTensor(item, meta=dict(meta)) for name, item in maps.items()}


POSTPROCESSING = [(ComponentInstancesd, "pred_instances", 1), (WatershedInstancesd, "pred_watershed", 2)]


@pytest.mark.parametrize(("postprocessing", "target", "count"), POSTPROCESSING)
def test_a_postprocessing_adds_instances_and_leaves_the_rest(postprocessing, target, count, record):
    before = {name: item.clone() for name, item in record.items()}
    read = postprocessing()(record)
    assert set(read) == {*record, target}
    assert set(record) == set(before)
    for name, item in before.items():
        assert torch.equal(read[name], item)
    assert isinstance(read[target], MetaTensor)
    assert read[target].shape == (1, 10, 24)
    assert read[target].dtype == torch.int32
    assert read[target].meta["filename_or_obj"] == "tile.png"
    assert torch.equal(read[target] > 0, record["pred"] > 0)
    assert read[target].max() == count


@pytest.mark.parametrize(("postprocessing", "target", "count"), POSTPROCESSING)
def test_scores_and_arrays_are_read_as_class_indices_are(postprocessing, target, count, record):
    scores = {**record, "pred": torch.cat([1 - record["pred"], record["pred"]])}
    assert torch.equal(postprocessing()(scores)[target], postprocessing()(record)[target])
    arrays = {name: np.asarray(item) for name, item in scores.items()}
    read = postprocessing()(arrays)[target]
    assert isinstance(read, np.ndarray)
    assert read.max() == count


def test_the_settings_reach_the_postprocessing(record):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, 40, 50, generator=generator) > 0.45
    maps = {"pred": mask, "pred_sdf": torch.rand(1, 40, 50, generator=generator), "pred_boundary": 0.3 * mask}
    plain = {"connectivity": 1, "min_area": 8, "hole_area": 3}
    read = ComponentInstancesd(target_key="here", **plain)(maps)["here"][0]
    np.testing.assert_array_equal(read, component_instances(mask[0].numpy(), **plain))
    more = {**plain, "seed_level": 0.5, "boundary_level": 0.4, "boundary_weight": 2.0, "min_seed_area": 2}
    planes = [item[0].numpy() for item in maps.values()]
    renamed = {"answer": maps["pred"], "far": maps["pred_sdf"], "wall": maps["pred_boundary"]}
    read = WatershedInstancesd("answer", "far", "wall", "here", **more)(renamed)["here"][0]
    np.testing.assert_array_equal(read, watershed_instances(*planes, **more))
    for name, value in {**more, "seed_level": -1, "boundary_level": 0.2, "min_seed_area": 0, "hole_area": 0}.items():
        if more[name] != value:
            assert not np.array_equal(read, watershed_instances(*planes, **{**more, name: value})), name


def test_a_probability_is_the_softmax_of_each_foreground_class():
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3]))[:, None, None].half()
    result = ForegroundProbabilityd(target_key="chance")({"pred": logits})
    assert result["pred"] is logits
    assert result["chance"].dtype == torch.float32
    torch.testing.assert_close(result["chance"].flatten(), torch.tensor([0.5, 0.3]), atol=1e-3, rtol=0)


def test_a_missing_prediction_may_be_allowed_and_a_missing_map_never(record):
    assert ComponentInstancesd(allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        ComponentInstancesd()({"image": 1})
    del record["pred_boundary"]
    with pytest.raises(KeyError, match=r"no 'pred_boundary' in the record, .*configs/postprocessing/watershed.yaml"):
        WatershedInstancesd()(record)


def test_wrong_shapes_and_settings_are_refused(record):
    with pytest.raises(ValueError, match=r"'pred' has the shape \(10, 24\); a prediction of one image has \(C, H, W\)"):
        ComponentInstancesd()({"pred": record["pred"][0]})
    with pytest.raises(ValueError, match=r"'pred_sdf' has the shape \(2, 10, 24\); the watershed needs \(1, H, W\)"):
        WatershedInstancesd()({**record, "pred_sdf": torch.zeros(2, 10, 24)})
    with pytest.raises(ValueError, match="seed_level is 2"):
        WatershedInstancesd(seed_level=2)
    with pytest.raises(ValueError, match="min_area is -1 px"):
        WatershedInstancesd(min_area=-1)
    with pytest.raises(ValueError, match="connectivity is 0"):
        ComponentInstancesd(connectivity=0)
