"""The dense encoders as PyG message passing edge by edge, with their own parameters: for tests and to be timed."""

from collections.abc import Callable

import torch
from edge_graph import EdgeGraph, Messages
from edge_lists_of_states import edge_gnn, scale_gnn
from torch import Tensor, nn
from torch_geometric.utils import scatter

from peace.encoders.layer_gnn import LayerGNN
from peace.encoders.network_gnn import FILTERS, NetworkGNN
from peace.graph.pyg import GraphReading


def layer_gnn(encoder: LayerGNN, edges: EdgeGraph) -> Tensor:
    """Returns tokens of `layer_gnn` from the layers reading. Shape: [models, L, H]."""
    own = encoder.graph.made["shared"]
    pass_on, gate = Messages(), edges.tap_codes(own.tap_gate)
    size = edges.weight[:, 0].abs()
    degree = sum(scatter(size, ends, dim_size=edges.nodes) for ends in edges.ahead)
    weight = edges.weight / (degree[edges.ahead[0]] * degree[edges.ahead[1]]).sqrt()[:, None]
    weight = weight if gate is None else weight * gate
    state = edges.bias * own.bias_direction
    for _ in range(own.num_layers):
        sent = own.message(state)
        total = pass_on(sent, edges.ahead, weight) + pass_on(sent, edges.back, weight)
        state = torch.relu(own.update(state) + total)
    group = edges.model * edges.layers + edges.node_layer
    tokens = scatter(state, group, dim_size=edges.models * edges.layers, reduce="mean")
    return tokens.view(edges.models, edges.layers, -1)


def network_gnn(encoder: NetworkGNN, edges: EdgeGraph) -> Tensor:
    """Returns tokens of `network_gnn` from the network reading. Shape: [models, L, 16 H + 1]."""
    pass_on = Messages()
    # Scales: a layer's weights at root-mean-square row norm 1, rows being those of the receiving side.
    norm = scatter(edges.weight[:, 0].square(), edges.of_layer, dim_size=edges.models * edges.layers).sqrt()
    unit = edges.weight / norm[edges.of_layer][:, None]
    rooted = [unit * edges.sizes[ends[edges.edge_layer]].sqrt()[:, None] for ends in (edges.outs, edges.ins)]
    weights = edges.filtered(rooted, encoder.tap_filters, FILTERS)
    codes = (encoder.input_codes, encoder.output_codes)
    swept = torch.cat(list(edges.swept(codes, [each.of_layers for each in weights])), dim=1)
    state = encoder.start(swept) + _bias(edges, norm)[:, None] * encoder.bias_direction
    for step in encoder.steps:
        met = [sum(pass_on(state, index, own) for index, own in each.together) for each in weights]
        state = state + step.update(torch.cat([state, *met], dim=1))
    feature = encoder.readout(torch.cat([state, swept], dim=1))
    return edges.tokens(encoder.mean, feature, norm.log().view(edges.models, -1, 1))


def _bias(edges: EdgeGraph, norm: Tensor) -> Tensor:
    """Biases in units of the layer that writes them. Shape: [N]."""
    layers, axis = edges.graph.layers, edges.node_axis
    writers = [
        next((place for place, layer in enumerate(layers) if layer.out_axis == axis and layer.bias), 0)
        for axis in range(edges.axes)
    ]
    writer = edges.model * edges.layers + torch.tensor(writers)[axis]
    return edges.bias[:, 0] * edges.sizes[axis].sqrt() / norm[writer]


EDGE_LISTS: dict[str, tuple[GraphReading, Callable[[nn.Module, EdgeGraph], Tensor]]] = {
    "edge_gnn": ("network", edge_gnn),
    "layer_gnn": ("layers", layer_gnn),
    "network_gnn": ("network", network_gnn),
    "scale_gnn": ("network", scale_gnn),
}
"""By encoder: the reading that its edge list has, and the function that gives its tokens from it."""
