"""`scale_gnn` and `edge_gnn` give the numbers of messages edge by edge that know only `to_pyg`'s graph."""

import pytest
import torch
from test_encoders_pyg import MODELS, NODES, Messages, backwards, looked_up, networks
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter

from peace.encoders.edge_gnn import EdgeGNN
from peace.encoders.places import NodeMean, PlaceCodes
from peace.encoders.scale_gnn import ScaleGNN
from peace.encoders.sweeps import Sweeps
from peace.graph.pyg import to_pyg
from peace.graph.weight_graph import WeightGraph

PASS = Messages()


class Graphs:
    """Joined graphs of some models, and what both references need to know of them."""

    def __init__(self, data: Data, graph: WeightGraph, models: int) -> None:
        self.data, self.graph, self.models = data, graph, models
        self.axes, self.layers = len(graph.axes), len(graph.layers)
        self.model = data.batch if isinstance(data, Batch) else torch.zeros(len(data.node_axis), dtype=torch.int64)
        self.group = self.model * self.axes + data.node_axis
        self.edges, self.back = data.edge_index, backwards(data.edge_index)

    def role(self, role: str) -> Tensor:
        return torch.tensor([axis.role == role for axis in self.graph.axes])[self.data.node_axis, None]

    def codes(self, codes: PlaceCodes) -> Tensor:
        tables = [codes.of(axis.shape, self.data.edge_attr) for axis in self.graph.axes]
        return looked_up(tables, self.data.node_axis, self.data.node_place)

    def taps(self, codes: PlaceCodes, single: float) -> Tensor:
        """The codes of the taps of edges, another number where a layer has one tap."""
        tables = [codes.of(layer.taps, self.data.edge_attr) for layer in self.graph.layers]
        several = torch.tensor([layer.n_tap > 1 for layer in self.graph.layers])[self.data.edge_layer]
        return torch.where(several[:, None], looked_up(tables, self.data.edge_layer, self.data.edge_tap), single)

    def size(self, states: Tensor) -> Tensor:
        """Root mean squares over each model's axis. Shape: [N, 1]."""
        total = scatter(states.square().mean(1), self.group, dim_size=self.models * self.axes, reduce="mean")
        return total.sqrt()[self.group, None]

    def tokens(self, mean: NodeMean, features: Tensor, *more: Tensor) -> Tensor:
        size = torch.tensor([float(axis.size) for axis in self.graph.axes]).double()[self.data.node_axis, None, None]
        gates = self.codes(mean.gates).view(len(size), 8, -1) / size**0.5
        heads = torch.where(self.role("hidden")[:, :, None], 1 / size, gates) * features[:, None, :]
        read = scatter(heads.flatten(1), self.group, dim_size=self.models * self.axes)
        read = read.view(self.models, self.axes, -1)
        outs, ins = ([getattr(layer, side) for layer in self.graph.layers] for side in ("out_axis", "in_axis"))
        return torch.cat([read[:, outs], read[:, ins], *more], dim=2)

    def sweeps(self, sweeps: Sweeps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x and y as plain sums, and the gates of edges."""
        data, weight = self.data, self.data.edge_attr
        gates = self.taps(sweeps.tap_gates, 1.0).chunk(2, dim=1)
        found = []
        for role, codes, edges, gate in (
            ("input", sweeps.input_codes, self.edges, gates[0]),
            ("output", sweeps.output_codes, self.back, gates[1]),
        ):
            total, heard = torch.where(self.role(role), self.codes(codes), 0.0), self.role(role).double()
            places = list(enumerate(self.graph.layers))
            for place, layer in places if role == "input" else reversed(places):
                of = data.edge_layer == place
                there = data.node_axis[:, None] == (layer.out_axis if role == "input" else layer.in_axis)
                total = total + PASS(total / heard.clamp(min=1).sqrt(), edges[:, of], weight[of], gate[of])
                if role == "input" and layer.bias:
                    total = total + there * data.node_bias * sweeps.bias_direction
                heard = heard + there
            found.append(total / heard.clamp(min=1).sqrt())
        return found[0], found[1], gates[0], gates[1]


def scale_reference(encoder: ScaleGNN, graphs: Graphs) -> Tensor:
    x, y, ahead_gate, back_gate = graphs.sweeps(encoder.sweeps)
    weight, size = graphs.data.edge_attr, graphs.size
    signs = torch.tensor([axis.scaling == "sign" for axis in graphs.graph.axes])[graphs.data.node_axis, None]

    def invariants(module: nn.Module, covariant: tuple[Tensor, ...], contravariant: tuple[Tensor, ...]) -> Tensor:
        factor = module.covariant(torch.cat(covariant, dim=1))
        product = torch.where(signs, factor, factor.relu()) * module.contravariant(torch.cat(contravariant, dim=1))
        whole = size(product)
        product = product / whole
        strength = (product.square().mean(1, keepdim=True) + 1e-4).log()
        return torch.cat([module.norm(product), strength, whole.log().asinh()], dim=1)

    h, g = x, y
    for step in encoder.steps:
        m = PASS(step.forward_message(h), graphs.edges, weight, ahead_gate)
        n = PASS(step.backward_message(g), graphs.back, weight, back_gate)
        # Nothing arrives at input nodes, and nothing returns to output nodes.
        m = torch.where(m == 0, m, m * size(h * g) / size(m * g))
        n = torch.where(n == 0, n, n * size(h * g) / size(h * n))
        a = step.gates(invariants(step.invariants, (h, m), (g, n))).chunk(4, dim=1)
        h = h + a[0] * step.covariant[0](h) + a[1] * step.covariant[1](m)
        g = g + a[2] * step.contravariant[0](g) + a[3] * step.contravariant[1](n)
    return graphs.tokens(encoder.mean, encoder.readout(invariants(encoder.invariants, (h, x), (g, y))))


def edge_reference(encoder: EdgeGNN, graphs: Graphs) -> Tensor:
    data, layers = graphs.data, graphs.graph.layers
    x, y, _, _ = graphs.sweeps(encoder.sweeps)
    h = encoder.start(torch.cat([x / graphs.size(x), y / graphs.size(y)], dim=1))
    owner, count = graphs.model[graphs.edges[0]] * len(layers) + data.edge_layer, graphs.models * len(layers)
    norm = scatter(data.edge_attr[:, 0].square(), owner, dim_size=count, reduce="mean").sqrt()
    e = data.edge_attr / norm[owner, None] * encoder.weight_direction + graphs.taps(encoder.tap_codes, 0.0)

    def shares(side: str, other: str) -> tuple[Tensor, Tensor]:
        """Of each edge: one over the weights of its layer at the hearing node, and the root of that node's layers."""
        sizes = [axis.size for axis in graphs.graph.axes]
        weights = [sizes[getattr(layer, other)] // layer.groups * layer.n_tap for layer in layers]
        heard = [sum(getattr(one, side) == getattr(layer, side) for one in layers) for layer in layers]
        shares, many = (torch.tensor(numbers).double()[data.edge_layer, None] for numbers in (weights, heard))
        return 1 / shares, many**0.5

    (of_out, many_out), (of_in, many_in) = shares("out_axis", "in_axis"), shares("in_axis", "out_axis")
    sources, targets = graphs.edges
    for step in encoder.steps:
        ends = step.of_output(h)[targets] + step.of_input(h)[sources]
        e = e + step.edge_update(step.own(e) + ends)
        parts = [h]
        for to, sent, share, many in (
            (targets, step.forward_message(h)[sources], of_out, many_out),
            (sources, step.backward_message(h)[targets], of_in, many_in),
        ):
            parts += [scatter(e * sent * share**0.5 / many, to, dim_size=len(h)),
                      scatter(e * share / many, to, dim_size=len(h))]  # fmt: skip
        h = h + step.node_update(torch.cat(parts, dim=1))
    means = scatter(e, owner, dim_size=count, reduce="mean").view(graphs.models, len(layers), -1)
    return graphs.tokens(encoder.mean, encoder.readout(h), means, norm.log().view(graphs.models, -1, 1))


ENCODERS = {
    "scale_gnn": (lambda: ScaleGNN(hidden_dim=6, num_layers=2), scale_reference),
    "edge_gnn": (lambda: EdgeGNN(hidden_dim=6, edge_dim=4, num_layers=2), edge_reference),
}


@pytest.mark.parametrize("network", [*NODES, "wired"])
@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_dense_tokens_are_those_of_messages_edge_by_edge(name: str, network: str) -> None:
    torch.manual_seed(0)
    make, reference = ENCODERS[name]
    encoder, stack = make().double(), networks(network)
    for parameter in encoder.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    graphs = [to_pyg(stack, model) for model in range(MODELS)]
    expected = torch.cat([reference(encoder, Graphs(data, stack.graph, 1)) for data in graphs])
    joined = reference(encoder, Graphs(Batch.from_data_list(graphs), stack.graph, MODELS))
    for found in (encoder(stack), joined):
        assert found.shape == expected.shape == (MODELS, len(stack.graph.layers), encoder.output_dim)
        assert (found - expected).norm() / expected.norm() < 1e-10
    assert expected.std(0).max() / expected.abs().max() > 1e-3, "models with different weights have different tokens"
