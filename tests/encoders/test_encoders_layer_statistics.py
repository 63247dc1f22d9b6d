"""Statistics of layers: known values, none of a missing bias, nothing of the order, and gradients."""

import torch

from peace.encoders.layer_statistics import STATISTICS_DIM, layer_statistics


def test_size_and_quintiles_are_known() -> None:
    weight = torch.tensor([[0.0, 0.03, -0.01, 0.07, 0.01]]).view(1, 1, 5, 1)
    size = torch.tensor([0.0, 0.03, 0.01, 0.07, 0.01]).square().mean().sqrt()
    expected = torch.tensor([size / 0.01 + 1, 2.0, 1.0, 2.0, 4.0, 8.0]).log() * torch.tensor([1, -1, 1, 1, 1, 1])
    found = layer_statistics(weight, torch.tensor([[-0.02]]))
    assert found.shape == (1, STATISTICS_DIM)
    assert torch.allclose(found[0, :6], expected)
    assert torch.allclose(found[0, 6:], torch.tensor([3.0] * 6).log() * torch.tensor([1, -1, -1, -1, -1, -1]))


def test_a_layer_without_bias_has_zeros() -> None:
    found = layer_statistics(torch.ones(2, 3, 4, 1), None)
    assert not found[:, 6:].any() and found[:, :6].all()


def test_gradients_are_finite_where_all_is_zero() -> None:
    weight, bias = torch.zeros(2, 3, 4, 1, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    layer_statistics(weight, bias).sum().backward()
    assert weight.grad.isfinite().all() and bias.grad.isfinite().all()


def test_the_order_of_weights_is_not_known() -> None:
    weight = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bias = weight[:, :, 0, 0]
    moved = layer_statistics(weight.flip(1).flip(2), bias.flip(1))
    assert torch.allclose(moved, layer_statistics(weight, bias), rtol=1e-12)
