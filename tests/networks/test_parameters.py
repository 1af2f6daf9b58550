"""Numbers of parameters in docs and config headers are those of the networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

METHODS = {
    "`UNet`, and one expert with 2 classes": "supervised",
    "`SemiMoE`, gates `paper`": "semi_moe",
    "`SemiMoE`, gates `as_released`": "semi_moe_as_released",
    "`SemiMoE`, gate `equal`": "semi_moe_equal_gates",
    "`SemiMoE`, shared encoder": "semi_moe_shared_encoder",
}
"""Row of the table in docs/method.md -> overlay."""
SIZES: dict[str, tuple[list[str], dict[str, object]]] = {
    "narrow": (["encoders/unet.yaml"], {"network_def#widths": [8, 16, 32, 64, 128]}),
    "unet": (["encoders/unet.yaml"], {}),
    "paper": (["sizes/paper.yaml"], {}),
    "default": ([], {"network_def#encoder#pretrained": False}),
}
RATIO = re.compile(r"([\d.]+) times (?:its|the) parameters")


@pytest.fixture(scope="module")
def count(repository_root: Path) -> Callable[..., int]:
    """Return the number of parameters of a method at a size, on the meta device unless it is a transformer."""

    def counted(method: str, size: str = "default", **changes: object) -> int:
        parser = ConfigParser()
        overlays, settings = SIZES[size] if method != "topo_semi_seg" else ([], {})
        files = ["train.json", f"methods/{method}.yaml", *overlays]
        parser.read_config([str(repository_root / "configs" / file) for file in files])
        parser.update({"bundle_root": str(repository_root), **settings, **changes})
        with torch.device("cpu" if method == "cross_teaching" else "meta"):
            network = parser.get_parsed_content("network_def")
        return sum(parameter.numel() for parameter in network.parameters())

    return counted


def test_the_table_of_parameters(count, repository_root):
    text = (repository_root / "docs" / "method.md").read_text(encoding="utf-8")
    for title, method in METHODS.items():
        row = f"| {title} | " + " | ".join(f"{count(method, size):,}" for size in list(SIZES)[:3]) + " |"
        assert row in text, row
    assert count("semi_moe_as_released", "paper") == 103_665_971, "as the review code"


def test_the_card_and_the_headers_of_sizes_and_shared_encoder(count, repository_root):
    millions = {"default": count("semi_moe_plus") / 1e6, "paper": count("semi_moe", "paper") / 1e6}
    card = (repository_root / "docs" / "README.md").read_text(encoding="utf-8")
    assert f"({millions['default']:.1f} million parameters in all)" in card
    assert f"({millions['paper']:.1f} million)" in card
    header = (repository_root / "configs" / "sizes" / "paper.yaml").read_text(encoding="utf-8")
    assert (
        f"{count('supervised', 'paper'):,} parameters per expert ({millions['paper']:.2f} million with gates)" in header
    )
    shared = (repository_root / "configs" / "methods" / "semi_moe_shared_encoder.yaml").read_text(encoding="utf-8")
    assert f"about {count('semi_moe_shared_encoder', 'paper') / 1e6:.0f} M parameters" in shared


def test_ratios_of_parameters_in_headers_of_methods(count, repository_root):
    ratios = {}
    for path in (repository_root / "configs" / "methods").glob("*.yaml"):
        header = path.read_text(encoding="utf-8").replace("\n#", "")
        if match := RATIO.search(header):
            ratios[path.stem] = (match[1], f"{count(path.stem) / count('supervised'):.1f}")
    assert set(ratios) == {"cct", "cross_teaching", "k_experts", "xnet"}
    assert all(documented == actual for documented, actual in ratios.values()), ratios


def test_the_header_of_cross_teaching(count, repository_root):
    text = (repository_root / "configs" / "methods" / "cross_teaching.yaml").read_text(encoding="utf-8")
    for size, feature_size in (("default", 12), ("paper", 48)):
        unet = count("supervised", size)
        both = count("cross_teaching", size, **{"network_def#peer#network#feature_size": feature_size})
        digits = 1 if size == "default" else 0
        assert f"{(both - unet) / 1e6:.{digits}f} million" in text
        assert f"{unet / 1e6:.1f})" in text
