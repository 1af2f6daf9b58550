"""A U-Net and its peer: output, export, and peers for images of any size."""

from __future__ import annotations

import io

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from bundle.networks import Padded, Peers

TINY = (4, 6, 8, 10, 12)


class Divisible(nn.Module):
    """Network for sides that are multiples of 8, which records its input."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        if any(side % 8 for side in image.shape[2:]):
            raise ValueError("sides")
        self.seen.append(image)
        return image[:, :2]


def transformer() -> nn.Module:
    """Return a small transformer of MONAI."""
    return Padded(SwinUNETR(3, 2, feature_size=12, spatial_dims=2, norm_name=("group", {"num_groups": 4})), 32)


def test_both_networks_have_different_weights() -> None:
    network = Peers(widths=TINY).eval()
    mine, theirs = network.network.state_dict(), network.peer.state_dict()
    assert [value.shape for value in mine.values()] == [value.shape for value in theirs.values()]
    assert all(not torch.equal(mine[name], theirs[name]) for name in mine if "conv.weight" in name)
    answers = network.heads(torch.randn(2, 3, 32, 48))
    assert set(answers) == {"seg", "peer"}
    assert answers["seg"].shape == answers["peer"].shape == (2, 2, 32, 48)
    assert not torch.allclose(answers["seg"], answers["peer"])


def test_forward_does_not_run_the_peer() -> None:
    network = Peers(out_channels=3, widths=TINY).eval()
    image = torch.randn(2, 3, 33, 47)
    expected = network.heads(image)["seg"]

    def refuse(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        raise AssertionError("the peer was run")

    network.peer.register_forward_pre_hook(refuse)
    assert torch.equal(network(image), expected)
    assert expected.shape == (2, 3, 33, 47)


@pytest.mark.parametrize("peer", [None, transformer], ids=["unet", "transformer"])
def test_a_script_contains_only_the_u_net(peer) -> None:
    """MONAI's transformer cannot be scripted, and inference does not need it."""
    network = Peers(widths=TINY, peer=peer and peer()).eval()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    image = torch.randn(1, 3, 33, 40)
    torch.testing.assert_close(loaded(image), network(image))
    assert {name.split(".")[0] for name in loaded.state_dict()} == {"network"}
    assert {name.split(".")[0] for name in network.state_dict()} == {"network", "peer"}


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (48, 64)])
def test_a_transformer_takes_images_of_any_size(height: int, width: int) -> None:
    network = Peers(widths=TINY, peer=transformer())
    answers = network.train().heads(torch.randn(1, 3, height, width))
    assert answers["peer"].shape == (1, 2, height, width)
    answers["peer"].sum().backward()
    parameters = dict(network.peer.named_parameters())
    assert all(value.grad is not None and value.grad.isfinite().all() for value in parameters.values())


def test_the_image_is_padded_and_the_output_is_cropped() -> None:
    inner = Divisible()
    image = torch.randn(2, 3, 9, 16)
    assert torch.equal(Padded(inner, 8)(image), image[:, :2])
    assert inner.seen[0].shape == (2, 3, 16, 16)
    assert torch.equal(inner.seen[0][:, :, :9], image)
    assert torch.equal(inner.seen[0][:, :, 9:], image[:, :, 8:9].expand(-1, -1, 7, -1))
    Padded(inner, 8)(image[:, :, :8])
    assert inner.seen[1].shape == (2, 3, 8, 16)
