"""Paths of the layer-wise encoder that depend on sizes give one and the same result."""

import pytest
import torch
from torch import Tensor

from peace.encoders import layer_gnn
from peace.encoders.layer_gnn import LayerGNN
from peace.graph.stack import Stack
from peace.graph.weight_graph import Axis, Layer, WeightGraph


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]), dtype=torch.float64)


def layer(taps: tuple[int, ...], groups: int = 1, kind: str = "conv") -> Layer:
    return Layer("layer", kind, 0, 1, taps, "weight", None, groups)  # type: ignore[arg-type]


def by_definition(encoder: LayerGNN, of: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Paper a, 3.2, written out for one group: every node has a state from the start."""
    own = encoder.graph.of(of)
    gates = own.tap_gate.of(of.taps, weight) if weight.shape[3] > 1 else weight.new_ones(1, encoder.output_dim)
    size = weight.abs()
    scaled = weight / (size.sum((2, 3))[:, :, None, None] * size.sum((1, 3))[:, None, :, None]).sqrt()
    inputs = weight.new_zeros(len(weight), weight.shape[2], encoder.output_dim)
    outputs = weight.new_zeros(*weight.shape[:2], encoder.output_dim)
    if bias is not None:
        outputs = bias[:, :, None] * own.bias_direction
    if own.expansion is not None:
        first = outputs.new_zeros(*weight.shape[:2], 1) if bias is None else bias[:, :, None]
        outputs = outputs + own.expansion(first, weight, 1)
    for _ in range(own.num_layers):
        to_inputs = torch.einsum("boit,th,boh->bih", scaled, gates, own.message(outputs))
        to_outputs = torch.einsum("boit,th,bih->boh", scaled, gates, own.message(inputs))
        inputs, outputs = (own.update(inputs) + to_inputs).relu(), (own.update(outputs) + to_outputs).relu()
    return torch.cat([inputs, outputs], dim=1).mean(1)


@pytest.mark.parametrize("cached", [1, 7, 100, 2**18])
@pytest.mark.parametrize("taps", [(), (3,), (4, 5)], ids=["one tap", "three", "more than channels"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("expansion", [0, 2])
@torch.no_grad()
def test_tokens_are_those_of_the_paper(
    cached: int, taps: tuple[int, ...], with_bias: bool, expansion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_gnn, "_CACHED", cached)
    torch.manual_seed(0)
    encoder, of = LayerGNN(8, 2, feature_expansion=expansion).double(), layer(taps)
    weight, bias = drawn(3, 5, 4, of.n_tap), drawn(3, 5) if with_bias else None
    torch.testing.assert_close(encoder.token(of, weight, bias), by_definition(encoder, of, weight, bias))


@pytest.mark.parametrize("kinds", ["shared", "each"])
@torch.no_grad()
def test_small_layers_that_go_together_give_what_each_gives(kinds: str) -> None:
    torch.manual_seed(0)
    encoder = LayerGNN(8, 2, kinds=kinds).double()  # type: ignore[arg-type]
    layers = [
        layer((9,)),
        layer((3, 3)),
        layer((9,)),
        layer((9,), groups=2),
        layer((9,), kind="embedding"),
        layer((9,)),
    ]
    weights = [drawn(2, 4, 3, 9) + place for place in range(6)]
    biases = [drawn(2, 4), drawn(2, 4), drawn(2, 4) + 1, None, drawn(2, 4), None]
    axes = (Axis("out", (4,), "hidden", permutable=True), Axis("in", (3,), "input", permutable=True))
    graph = WeightGraph(axes, tuple(layers))
    each = [encoder.token(*one) for one in zip(layers, weights, biases, strict=True)]
    tokens = encoder(Stack(graph, tuple(weights), tuple(biases)))
    torch.testing.assert_close(tokens, torch.stack(each, dim=1))
    assert len({tuple(token[0].tolist()) for token in each}) == 6
