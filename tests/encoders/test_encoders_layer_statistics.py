"""Statistics of layers: known values, what they do not know, and that an encoder which holds them hears scales."""

import json

import pytest
import torch

from peace.config import compose
from peace.encoders.layer_statistics import STATISTICS_DIM, layer_statistics
from peace.encoders.network_gnn import NetworkGNN
from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.graph.symmetry import sample
from peace.models.embedder import build_embedder
from peace.zoo.architectures import build

MODELS = 3


@pytest.fixture(params=["relu", "tanh"])
def stack(request: pytest.FixtureRequest) -> Stack:
    text = json.dumps(
        {"name": "cnn", "channels": [4], "kernels": [2], "pools": [2], "input_shape": [2, 6, 6], "outputs": 3,
         "hidden": [5], "activation": request.param}
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(MODELS, *p.shape, generator=draw, dtype=torch.float64)
        for name, p in build(text).named_parameters()
    }
    return Stack.of(from_architecture(text), tensors)


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


def test_an_encoder_s_tokens_hold_them_beside_its_own(stack: Stack) -> None:
    torch.manual_seed(0)
    made = NetworkGNN(hidden_dim=16, statistics=True).double()
    tokens = made(stack)
    assert tokens.shape == (MODELS, len(stack.weights), made.output_dim)
    for place, pair in enumerate(zip(stack.weights, stack.biases, strict=True)):
        assert torch.equal(tokens[:, place, -STATISTICS_DIM:], layer_statistics(*pair))
    made.statistics = False
    assert torch.equal(tokens[:, :, :-STATISTICS_DIM], made(stack))


@torch.no_grad()
def test_embeddings_with_statistics_do_not_change_under_the_whole_group(stack: Stack) -> None:
    words = ["graph=canonical", "encoder=network_gnn", "encoder.statistics=true"]
    torch.manual_seed(0)
    made = build_embedder(compose("pretrain", words)).eval().double()
    moved = sample(stack.graph, MODELS, torch.Generator().manual_seed(1)).apply(stack)
    own, other = made.embed([stack]), made.embed([moved])
    assert ((own - other).norm(dim=1) / own.norm(dim=1)).max() < 1e-10
    assert torch.pdist(own).min() > 1e-3
