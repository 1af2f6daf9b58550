"""URPC: the mean of four scales teaches each of them."""

from __future__ import annotations

import torch
from torch.nn import functional

SCALES = ("seg", "scale_2", "scale_4", "scale_8")


def test_each_scale_is_held_to_the_mean_and_to_the_label(method):
    setup = method("urpc")
    setup.open_up()
    labeled, unlabeled = setup.batches()
    numbers = setup.step.train()(labeled, unlabeled, 0.5)
    heads = setup.network.heads(unlabeled["image"])
    assert tuple(heads) == SCALES
    probabilities = torch.stack([heads[name].softmax(dim=1) for name in SCALES]).detach()
    mean = probabilities.mean(dim=0)
    terms = []
    for name, p in zip(SCALES, probabilities, strict=True):
        v = functional.kl_div(mean.log(), p, reduction="none").sum(dim=1)  # KL(p, mean)
        trust = torch.exp(-v)
        squared = (p - mean).square().mean(dim=1)
        term = (trust * squared).sum() / trust.sum() + v.mean()
        assert term > 0
        torch.testing.assert_close(numbers[f"unlabeled/pyramid/{name}"], term, rtol=1e-4, atol=1e-7)
        terms.append(term)
    held = torch.stack([numbers[f"labeled/{name}"] for name in SCALES]).mean()
    torch.testing.assert_close(numbers["loss"].detach(), held + torch.stack(terms).mean(), rtol=1e-4, atol=1e-6)


def test_the_mean_is_a_target_without_gradient(method):
    """A scale's part alone moves its own head, and no other one, though all of them made the mean."""
    setup = method("urpc")
    setup.open_up()
    labeled, unlabeled = setup.batches()
    setup.step.consistency["pyramid"].losses = {"scale_8": setup.step.consistency["pyramid"].losses["scale_8"]}
    setup.only_taught()
    setup.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    gradients = {name: value.grad for name, value in setup.network.named_parameters() if "head" in name}
    assert gradients.pop("scale_heads.scale_8.weight").any()
    gradients.pop("scale_heads.scale_8.bias")
    assert len(gradients) == 6
    assert not any(value is not None and value.any() for value in gradients.values())
