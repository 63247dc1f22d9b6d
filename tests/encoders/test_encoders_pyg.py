"""The dense encoders give the numbers of PyG modules that send one message an edge and know only `to_pyg`'s graph."""

import json

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from peace.encoders.layer_gnn import LayerGNN
from peace.encoders.network_gnn import NetworkGNN
from peace.encoders.positions import grid_positions
from peace.graph.assembly import from_group
from peace.graph.build import from_architecture
from peace.graph.derive import derive
from peace.graph.pyg import to_pyg
from peace.graph.stack import Stack
from peace.graph.weight_graph import WeightGraph
from peace.zoo.architectures import build

_IMAGE = {"input_shape": [2, 7, 7], "outputs": 4, "activation": "relu"}
_CNN = {"name": "cnn", "channels": [4, 5], "kernels": [2, 2], "pools": [2, 1], **_IMAGE}
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
        self.stem, self.norm = nn.Conv2d(2, 6, 3, bias=False), nn.GroupNorm(1, 6)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6, bias=False)
        self.widen, self.narrow = nn.Conv2d(6, 8, 1, groups=2), nn.Conv2d(8, 6, 1, groups=2, bias=False)
        self.head = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(self.norm(self.stem(x)).relu()).relu()
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
        assert {layer.groups for layer in stack.graph.layers} == {1, 2, 6}
        return stack
    text = json.dumps(NODES[name])
    tensors = {
        key: torch.randn(MODELS, *p.shape, generator=draw, dtype=torch.float64)
        for key, p in build(text).named_parameters()
    }
    return Stack.of(from_architecture(text), tensors)


class Messages(MessagePassing):
    """Σ over edges of weight times gate times the state at the other end."""

    def __init__(self) -> None:
        super().__init__(aggr="sum", node_dim=0)

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x, weight=weight, gate=gate)

    def message(self, x_j: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        return weight * gate * x_j


def looked_up(rows: list[Tensor], which: Tensor, places: Tensor) -> Tensor:
    """Row `places[k]` of table `which[k]`."""
    starts = torch.tensor([0, *(len(table) for table in rows)]).cumsum(0)
    return torch.cat(rows)[starts[which] + places]


def backwards(edge_index: Tensor) -> Tensor:
    return edge_index.flip(0)


def layer_reference(encoder: LayerGNN, data: Data, graph: WeightGraph, models: int) -> Tensor:
    """Tokens of `layer_gnn` from the layers reading. Shape: [models, L, H]."""
    pass_on, edges, weight = Messages(), data.edge_index, data.edge_attr
    count = len(data.node_layer)
    tables = [encoder.tap_gate(grid_positions(layer.taps, weight)) for layer in graph.layers]
    gate = looked_up(tables, data.edge_layer, data.edge_tap)
    tapped = torch.tensor([layer.n_tap > 1 for layer in graph.layers])[data.edge_layer]
    gate = torch.where(tapped[:, None], gate, 1.0)
    degree = scatter(weight[:, 0].abs(), edges[0], dim_size=count) + scatter(
        weight[:, 0].abs(), edges[1], dim_size=count
    )
    normalised = weight / (degree[edges[0]] * degree[edges[1]]).sqrt()[:, None]
    state = data.node_bias * encoder.bias_direction
    for _ in range(encoder.num_layers):
        sent = encoder.message(state)
        total = pass_on(sent, edges, normalised, gate) + pass_on(sent, backwards(edges), normalised, gate)
        state = torch.relu(encoder.update(state) + total)
    model = data.batch if isinstance(data, Batch) else torch.zeros(count, dtype=torch.int64)
    group = model * len(graph.layers) + data.node_layer
    return scatter(state, group, dim_size=models * len(graph.layers), reduce="mean").view(models, len(graph.layers), -1)


def network_reference(encoder: NetworkGNN, data: Data, graph: WeightGraph, models: int) -> Tensor:
    """Tokens of `network_gnn` from the network reading. Shape: [models, L, 16 H + 1]."""
    pass_on, layers, axes = Messages(), len(graph.layers), len(graph.axes)
    model = data.batch if isinstance(data, Batch) else torch.zeros(len(data.node_axis), dtype=torch.int64)
    edges, back_edges = data.edge_index, backwards(data.edge_index)
    # Scales: a layer's weights at root-mean-square row norm 1, rows being those of the receiving side.
    group = model[edges[0]] * layers + data.edge_layer
    norm = scatter(data.edge_attr[:, 0].square(), group, dim_size=models * layers).sqrt()
    sizes = torch.tensor([axis.size for axis in graph.axes], dtype=torch.float64)
    outs = torch.tensor([layer.out_axis for layer in graph.layers])
    ins = torch.tensor([layer.in_axis for layer in graph.layers])
    unit = data.edge_attr / norm[group][:, None]
    ahead_weight = unit * sizes[outs[data.edge_layer]].sqrt()[:, None]
    back_weight = unit * sizes[ins[data.edge_layer]].sqrt()[:, None]
    tables = [encoder.tap_filters(grid_positions(layer.taps, unit)) for layer in graph.layers]
    tapped = torch.tensor([layer.n_tap > 1 for layer in graph.layers])[data.edge_layer]
    both = torch.where(tapped[:, None], looked_up(tables, data.edge_layer, data.edge_tap), 1.0)
    # Each filter serves its share of the channels.
    share = encoder.hidden_dim // (both.shape[1] // 2)
    ahead_gate, back_gate = both.repeat_interleave(share, dim=1).split(encoder.hidden_dim, dim=1)
    positions = looked_up([grid_positions(axis.shape, unit) for axis in graph.axes], data.node_axis, data.node_place)

    roles = [axis.role for axis in graph.axes]
    is_input, is_output = (
        torch.tensor([r == role for r in roles])[data.node_axis, None] for role in ("input", "output")
    )
    # Sums of all that has reached a node; what it says is over the root of how many messages that were.
    ahead = torch.where(is_input, encoder.input_codes(positions), 0.0)
    back = torch.where(is_output, encoder.output_codes(positions), 0.0)
    heard, answered = is_input.double(), is_output.double()
    for place in range(layers):
        of, there = data.edge_layer == place, data.node_axis[:, None] == outs[place]
        ahead = ahead + pass_on(ahead / heard.clamp(min=1).sqrt(), edges[:, of], ahead_weight[of], ahead_gate[of])
        heard = heard + there
    for place in reversed(range(layers)):
        of, there = data.edge_layer == place, data.node_axis[:, None] == ins[place]
        back = back + pass_on(back / answered.clamp(min=1).sqrt(), back_edges[:, of], back_weight[of], back_gate[of])
        answered = answered + there
    ahead, back = ahead / heard.clamp(min=1).sqrt(), back / answered.clamp(min=1).sqrt()

    writer = torch.tensor(
        [
            next((k for k, layer in enumerate(graph.layers) if layer.out_axis == a and layer.bias), 0)
            for a in range(axes)
        ]
    )
    unit_bias = data.node_bias[:, 0] * sizes[data.node_axis].sqrt() / norm[model * layers + writer[data.node_axis]]
    state = encoder.start(torch.cat([ahead, back], dim=1)) + unit_bias[:, None] * encoder.bias_direction
    for step in encoder.steps:
        to_outputs, to_inputs = step.messages(state).chunk(2, dim=1)
        from_inputs = pass_on(to_outputs, edges, ahead_weight, ahead_gate)
        from_outputs = pass_on(to_inputs, back_edges, back_weight, back_gate)
        state = state + step.update(torch.cat([state, from_inputs, from_outputs], dim=1))

    feature = encoder.readout(torch.cat([state, ahead, back], dim=1))
    size = sizes[data.node_axis]
    named = encoder.node_gates(positions).view(len(size), 8, -1) / size.sqrt()[:, None, None]
    gate = torch.where((is_input | is_output)[:, :, None], named, (1 / size)[:, None, None])
    heads = (gate * feature[:, None, :]).flatten(1)
    read = scatter(heads, model * axes + data.node_axis, dim_size=models * axes).view(models, axes, -1)
    return torch.cat([read[:, outs], read[:, ins], norm.log().view(models, layers, 1)], dim=2)


ENCODERS = {
    "layer_gnn": (lambda: LayerGNN(hidden_dim=6, num_layers=3), layer_reference, "layers"),
    "network_gnn": (lambda: NetworkGNN(hidden_dim=16, num_layers=2), network_reference, "network"),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    encoder = ENCODERS[name][0]().double()
    # Away from the start, where all biases of a LayerNorm are zero and its scales one.
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.mark.parametrize("network", [*NODES, "wired"])
@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_dense_tokens_are_those_of_messages_edge_by_edge(name: str, network: str) -> None:
    encoder, stack = made(name), networks(network)
    _, reference, reading = ENCODERS[name]
    graphs = [to_pyg(stack, model, reading) for model in range(MODELS)]
    expected = torch.cat([reference(encoder, data, stack.graph, 1) for data in graphs])
    alone = torch.cat([encoder(stack.select(slice(model, model + 1))) for model in range(MODELS)])
    joined = reference(encoder, Batch.from_data_list(graphs), stack.graph, MODELS)
    for found in (encoder(stack), alone, joined):
        assert found.shape == expected.shape == (MODELS, len(stack.graph.layers), encoder.output_dim)
        assert (found - expected).norm() / expected.norm() < 1e-10
        assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
    spread = expected.std(0).max() / expected.abs().max()
    assert spread > 1e-3, "models with different weights have different tokens"
