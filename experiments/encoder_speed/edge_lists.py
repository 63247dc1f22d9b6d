"""The dense encoders as PyG message passing edge by edge, with their own parameters: for tests and to be timed.

What depends on neither weights nor parameters is found when an `EdgeGraph` is made, which is not timed.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from peace.encoders.layer_gnn import LayerGNN
from peace.encoders.network_gnn import NetworkGNN
from peace.encoders.positions import grid_positions
from peace.graph.pyg import GraphReading
from peace.graph.weight_graph import WeightGraph


class Messages(MessagePassing):
    """Σ over edges of weight times gate times the state at the other end."""

    def __init__(self) -> None:
        super().__init__(aggr="sum", node_dim=0)

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor, gate: Tensor | None) -> Tensor:
        """Returns the sums. Shape: [N, H]."""
        return self.propagate(edge_index, x=x, weight=weight if gate is None else weight * gate)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Returns what each edge says. Shape: [E, H]."""
        return weight * x_j


class EdgeGraph:
    """Graphs of some models of one architecture as PyG holds them.

    Args:
        data: One model, or several joined.
        graph: The architecture.
        models: How many.
    """

    def __init__(self, data: Data, graph: WeightGraph, models: int) -> None:
        self.data, self.graph, self.models = data, graph, models
        self.layers, self.nodes = len(graph.layers), data.num_nodes
        self.weight, self.ahead, self.back = data.edge_attr, data.edge_index, data.edge_index.flip(0)
        self.model = data.batch if isinstance(data, Batch) else torch.zeros(self.nodes, dtype=torch.int64)
        self.of_layer = [(data.edge_layer == place).nonzero()[:, 0] for place in range(self.layers)]
        self.tap_row = self._row([layer.n_tap for layer in graph.layers], data.edge_layer, data.edge_tap)
        self.node_row = self._row([axis.size for axis in graph.axes], data.node_axis, data.node_place)
        self.tapped = torch.tensor([layer.n_tap > 1 for layer in graph.layers])[data.edge_layer, None]
        self.outs = torch.tensor([layer.out_axis for layer in graph.layers])
        self.ins = torch.tensor([layer.in_axis for layer in graph.layers])
        self.sizes = torch.tensor([axis.size for axis in graph.axes]).to(self.weight)

    @staticmethod
    def _row(lengths: Sequence[int], which: Tensor, places: Tensor) -> Tensor:
        """The row of each place in tables of these lengths, one below the other."""
        starts = torch.tensor([0, *lengths]).cumsum(0)
        return starts[which] + places

    def gates(self, table: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Returns learned vectors of the edges' taps, ones where a layer has one tap. None where all have."""
        if not self.tapped.any():
            return None
        rows = torch.cat([table(grid_positions(layer.taps, self.weight)) for layer in self.graph.layers])
        return torch.where(self.tapped, rows[self.tap_row], 1.0)

    def has_role(self, role: str) -> Tensor:
        """Returns whether nodes have a role. Shape: [N, 1]."""
        return torch.tensor([axis.role == role for axis in self.graph.axes])[self.data.node_axis, None]


def layer_gnn(encoder: LayerGNN, edges: EdgeGraph) -> Tensor:
    """Returns tokens of `layer_gnn` from the layers reading. Shape: [models, L, H]."""
    pass_on, weight, data, own = Messages(), edges.weight, edges.data, encoder.graph.made["shared"]
    gate = edges.gates(own.tap_gate)
    size = weight[:, 0].abs()
    degree = sum(scatter(size, ends, dim_size=edges.nodes) for ends in edges.ahead)
    normalised = weight / (degree[edges.ahead[0]] * degree[edges.ahead[1]]).sqrt()[:, None]
    state = data.node_bias * own.bias_direction
    for _ in range(own.num_layers):
        sent = own.message(state)
        total = pass_on(sent, edges.ahead, normalised, gate) + pass_on(sent, edges.back, normalised, gate)
        state = torch.relu(own.update(state) + total)
    group = edges.model * edges.layers + data.node_layer
    tokens = scatter(state, group, dim_size=edges.models * edges.layers, reduce="mean")
    return tokens.view(edges.models, edges.layers, -1)


def network_gnn(encoder: NetworkGNN, edges: EdgeGraph) -> Tensor:
    """Returns tokens of `network_gnn` from the network reading. Shape: [models, L, 16 H + 1]."""
    pass_on, data = Messages(), edges.data
    # Scales: a layer's weights at root-mean-square row norm 1, rows being those of the receiving side.
    group = edges.model[edges.ahead[0]] * edges.layers + data.edge_layer
    norm = scatter(edges.weight[:, 0].square(), group, dim_size=edges.models * edges.layers).sqrt()
    unit = edges.weight / norm[group][:, None]
    weights = [unit * edges.sizes[ends[data.edge_layer]].sqrt()[:, None] for ends in (edges.outs, edges.ins)]
    both = edges.gates(encoder.tap_gates)
    gates = (None, None) if both is None else both.split(encoder.hidden_dim, dim=1)
    positions = torch.cat([grid_positions(axis.shape, unit) for axis in edges.graph.axes])[edges.node_row]
    ahead, back = _sweeps(encoder, edges, positions, weights, gates)

    state = encoder.start(torch.cat([ahead, back], dim=1)) + _bias(edges, norm)[:, None] * encoder.bias_direction
    for step in encoder.steps:
        from_inputs = pass_on(step.forward_message(state), edges.ahead, weights[0], gates[0])
        from_outputs = pass_on(step.backward_message(state), edges.back, weights[1], gates[1])
        state = state + step.update(torch.cat([state, from_inputs, from_outputs], dim=1))

    read = _read(encoder, edges, positions, encoder.readout(torch.cat([state, ahead, back], dim=1)))
    return torch.cat([read[:, edges.outs], read[:, edges.ins], norm.log().view(edges.models, -1, 1)], dim=2)


def _sweeps(
    encoder: NetworkGNN, edges: EdgeGraph, positions: Tensor, weights: Sequence[Tensor], gates: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Sums of all that has reached a node; what it says is over the root of how many messages that were."""
    pass_on, found = Messages(), []
    sides = (
        ("input", encoder.input_codes, edges.ahead, edges.outs),
        ("output", encoder.output_codes, edges.back, edges.ins),
    )
    for direction, (role, codes, index, ends) in enumerate(sides):
        first, order = edges.has_role(role), range(edges.layers)
        state, heard = torch.where(first, codes(positions), 0.0), first.to(positions)
        for place in reversed(order) if direction else order:
            of, gate = edges.of_layer[place], gates[direction]
            said = state / heard.clamp(min=1).sqrt()
            state = state + pass_on(said, index[:, of], weights[direction][of], None if gate is None else gate[of])
            heard = heard + (edges.data.node_axis[:, None] == ends[place])
        found.append(state / heard.clamp(min=1).sqrt())
    return found[0], found[1]


def _bias(edges: EdgeGraph, norm: Tensor) -> Tensor:
    """Biases in units of the layer that writes them. Shape: [N]."""
    layers = edges.graph.layers
    writers = [
        next((place for place, layer in enumerate(layers) if layer.out_axis == axis and layer.bias), 0)
        for axis in range(len(edges.graph.axes))
    ]
    axis = edges.data.node_axis
    return (
        edges.data.node_bias[:, 0]
        * edges.sizes[axis].sqrt()
        / norm[edges.model * edges.layers + torch.tensor(writers)[axis]]
    )


def _read(encoder: NetworkGNN, edges: EdgeGraph, positions: Tensor, feature: Tensor) -> Tensor:
    """What each axis tells its layers' tokens. Shape: [models, axes, 8 H]."""
    axes, size = len(edges.graph.axes), edges.sizes[edges.data.node_axis]
    named = encoder.node_gates(positions).view(len(size), 8, -1) / size.sqrt()[:, None, None]
    known = edges.has_role("input") | edges.has_role("output")
    gate = torch.where(known[:, :, None], named, (1 / size)[:, None, None])
    heads = (gate * feature[:, None, :]).flatten(1)
    return scatter(heads, edges.model * axes + edges.data.node_axis, dim_size=edges.models * axes).view(
        edges.models, axes, -1
    )


EDGE_LISTS: dict[str, tuple[GraphReading, Callable[[nn.Module, EdgeGraph], Tensor]]] = {
    "layer_gnn": ("layers", layer_gnn),
    "network_gnn": ("network", network_gnn),
}
"""By encoder: the reading that its edge list has, and the function that gives its tokens from it."""
