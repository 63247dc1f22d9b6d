"""The dense encoders give the numbers of PyG modules that send one message an edge and know only `to_pyg`'s graph."""

import json

import pytest
import torch
from encoder_speed import EDGE_LISTS, EdgeGraph
from torch import Tensor, nn
from torch_geometric.data import Batch

from peace.encoders import ENCODERS
from peace.encoders.network_gnn import FILTERS
from peace.graph.assembly import from_group
from peace.graph.build import from_architecture
from peace.graph.derive import derive
from peace.graph.pyg import to_pyg
from peace.graph.stack import Stack
from peace.zoo.architectures import build

_IMAGE = {"input_shape": [2, 7, 7], "outputs": 4, "activation": "relu"}
_CNN = {"name": "cnn", "channels": [4, 9], "kernels": [2, 2], "pools": [2, 1], **_IMAGE}
NODES = {
    "mlp": {"name": "mlp", "hidden": [6, 5], **_IMAGE},
    "mlp-nobias": {"name": "mlp", "hidden": [6], "bias": False, **_IMAGE},
    "cnn": {**_CNN, "hidden": [6]},
    "cnn-nobias": {**_CNN, "hidden": [], "bias": False},
}
MODELS = 3


class Wired(nn.Module):
    """Grouped and depthwise convolutions, a normalisation, a concatenation, a stream that several layers write to.

    No axis is given two biases, whose units differ and which `to_pyg` adds up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 16, 3, bias=False), nn.GroupNorm(1, 16)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16, bias=False)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False)
        self.widen, self.narrow = nn.Conv2d(16, 8, 1, groups=2), nn.Conv2d(8, 16, 1, groups=2, bias=False)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.grouped(self.depthwise(self.norm(self.stem(x)).relu()).relu()).relu()
        wide = self.widen(h).relu()
        return self.head(torch.cat([wide, h + self.narrow(wide)], 1).mean((2, 3)))


def networks(name: str) -> Stack:
    draw = torch.Generator().manual_seed(0)
    if name == "wired":
        group = derive(Wired(), torch.zeros(1, 2, 7, 7))
        tensors = {
            key: torch.randn(MODELS, *shape, generator=draw, dtype=torch.float64) for key, shape in group.shapes.items()
        }
        stack = Stack.of(from_group(group), tensors)
        assert {layer.groups for layer in stack.graph.layers} == {1, 2, 16}
        return stack
    text = json.dumps(NODES[name])
    tensors = {
        key: torch.randn(MODELS, *p.shape, generator=draw, dtype=torch.float64)
        for key, p in build(text).named_parameters()
    }
    return Stack.of(from_architecture(text), tensors)


def made(name: str, steps: int = 2) -> nn.Module:
    torch.manual_seed(0)
    encoder = ENCODERS.build({"name": name, "hidden_dim": 16, "num_layers": steps}).double()
    # Away from the start, where all biases of a LayerNorm are zero and its scales one.
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.mark.parametrize("network", [*NODES, "wired"])
@pytest.mark.parametrize("name", EDGE_LISTS)
@torch.no_grad()
def test_dense_tokens_are_those_of_messages_edge_by_edge(name: str, network: str) -> None:
    encoder, stack = made(name), networks(network)
    reading, tokens = EDGE_LISTS[name]
    graphs = [to_pyg(stack, model, reading) for model in range(MODELS)]
    expected = torch.cat([tokens(encoder, EdgeGraph(data, stack.graph, 1)) for data in graphs])
    alone = torch.cat([encoder(stack.select(slice(model, model + 1))) for model in range(MODELS)])
    joined = tokens(encoder, EdgeGraph(Batch.from_data_list(graphs), stack.graph, MODELS))
    for found in (encoder(stack), alone, joined):
        assert found.shape == expected.shape == (MODELS, len(stack.graph.layers), encoder.output_dim)
        assert (found - expected).norm() / expected.norm() < 1e-10
        assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
    spread = expected.std(0).max() / expected.abs().max()
    assert spread > 1e-3, "models with different weights have different tokens"


@pytest.mark.parametrize("network", ["cnn", "wired"])
@torch.no_grad()
def test_kernels_with_few_senders_and_with_many_are_among_them(network: str) -> None:
    encoder, stack = made("network_gnn"), networks(network)
    edges = EdgeGraph(to_pyg(stack, 0, "network"), stack.graph, 1)
    for direction in edges.filtered([edges.weight, edges.weight], encoder.tap_filters, FILTERS):
        assert {weight.shape[1] for weight in direction.of_layers} - {1} == {FILTERS, encoder.hidden_dim}


@pytest.mark.parametrize("name", EDGE_LISTS)
@torch.no_grad()
def test_so_are_those_of_one_step(name: str) -> None:
    encoder, stack = made(name, 1), networks("cnn-nobias")
    reading, tokens = EDGE_LISTS[name]
    graphs = Batch.from_data_list([to_pyg(stack, model, reading) for model in range(MODELS)])
    torch.testing.assert_close(encoder(stack), tokens(encoder, EdgeGraph(graphs, stack.graph, MODELS)))
    assert not torch.allclose(encoder(stack), made(name, 2)(stack))
