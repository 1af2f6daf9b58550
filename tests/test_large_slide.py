"""A slide of 20,000 x 20,000 px from file to mask and polygons, read by other libraries."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
import tifffile
import torch
from scipy import ndimage

SIDE = 20_000
WINDOW = 15
"""Side of what the network sees, px: it calls gland what is dark on average, so glands come out whole."""
NETWORK = {
    "_target_": "torch.nn.Conv2d",
    "in_channels": 3,
    "out_channels": 2,
    "kernel_size": WINDOW,
    "padding": WINDOW // 2,
}


@pytest.mark.slow
def test_a_large_slide_goes_through_with_a_bar_and_others_read_what_it_gives(copy_bundle, load_program, tmp_path):
    openslide = pytest.importorskip("openslide")
    slide = tmp_path / "large.tif"
    arguments = ["--output", slide, "--size", SIDE, SIDE, "--mpp", 0.5, "--tissue", 0.3]
    assert load_program("draw_slide").main(list(map(str, arguments))) == 0
    bundle_copy = copy_bundle("large_slide", data=False)
    weight = torch.zeros(2, 3, WINDOW, WINDOW)
    weight[0, 1] = 1 / WINDOW**2  # green above its mean is background
    (bundle_copy.root / "models").mkdir()
    torch.save({"weight": weight, "bias": torch.zeros(2)}, bundle_copy.root / "models" / "model.pt")
    bundle_copy.edit("inference.json", {"network_def": NETWORK, "crop_size": [256, 256]})
    files = bundle_copy.configs("inference.json", "inference/slides.yaml")
    arguments = ["run", "inference", "--config_file", files, "--dataset_dir", slide, "--output_dir", tmp_path / "out"]
    arguments += ["--block", 1024, "--min_area", 0.0, "--simplify", 0.0, "--mask_layout", "plain"]
    output = bundle_copy.run(*map(str, arguments), timeout=3600).stderr
    assert "blocks [" in output

    with tifffile.TiffFile(tmp_path / "out" / "large_mask.tif") as file:
        sizes = [level.shape for level in file.series[0].levels]
        mask = file.series[0].levels[0].asarray()
    assert sizes[:3] == [(SIDE, SIDE), (SIDE // 2, SIDE // 2), (SIDE // 4, SIDE // 4)]
    assert 0.02 < (mask > 0).mean() < 0.3
    with openslide.OpenSlide(tmp_path / "out" / "large_mask.tif") as opened:
        assert list(opened.level_dimensions) == [size[::-1] for size in sizes]
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        rows, columns = np.nonzero(mask[::64, ::64])
        y, x = 64 * int(rows[len(rows) // 2]), 64 * int(columns[len(rows) // 2])
        part = np.asarray(opened.read_region((x, y), 0, (500, 400)).convert("L"))
    assert np.array_equal(part, mask[y : y + 400, x : x + 500])

    features = json.loads((tmp_path / "out" / "large.geojson").read_text())["features"]
    shapes = np.array([shapely.geometry.shape(feature["geometry"]) for feature in features])
    assert len(shapes) == ndimage.label(mask)[1] > 1
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapes).sum() == (mask > 0).sum()
    inside = shapely.union_all(shapely.intersection(shapes, shapely.box(x, y, x + 500, y + 400)))
    assert inside.area == (part > 0).sum()
