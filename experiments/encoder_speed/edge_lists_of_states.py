"""`scale_gnn` and `edge_gnn` as PyG message passing edge by edge, with their own parameters."""

import torch
from edge_graph import EdgeGraph, Messages
from torch import Tensor, nn
from torch_geometric.utils import scatter

from peace.encoders.edge_gnn import EdgeGNN
from peace.encoders.scale_gnn import ScaleGNN


def scale_gnn(encoder: ScaleGNN, edges: EdgeGraph) -> Tensor:
    """Returns tokens of `scale_gnn` from the network reading. Shape: [models, L, 16 H]."""
    pass_on, sweeps = Messages(), encoder.sweeps
    weights = edges.gated((edges.weight, edges.weight), sweeps.tap_gates)
    codes = (sweeps.input_codes, sweeps.output_codes)
    x, y = edges.swept(codes, [each.split(edges.counts) for each in weights], sweeps.bias_direction)
    h, g = x, y
    for step in encoder.steps:
        m = pass_on(step.forward_message(h), edges.ahead, weights[0])
        n = pass_on(step.backward_message(g), edges.back, weights[1])
        m, n = (sent * _size(edges, h * g) / _size(edges, sent * other) for sent, other in ((m, g), (n, h)))
        features = _invariants(step.invariants, edges, torch.cat([h, m], dim=1), torch.cat([g, n], dim=1))
        a = step.gates(features).chunk(4, dim=1)
        h = h + a[0] * step.covariant[0](h) + a[1] * step.covariant[1](m)
        g = g + a[2] * step.contravariant[0](g) + a[3] * step.contravariant[1](n)
    features = _invariants(encoder.invariants, edges, torch.cat([h, x], dim=1), torch.cat([g, y], dim=1))
    return edges.tokens(encoder.mean, encoder.readout(features))


def _invariants(module: nn.Module, edges: EdgeGraph, covariant: Tensor, contravariant: Tensor) -> Tensor:
    """Features of nodes that no scale and no sign changes. Shape: [N, H + 2]."""
    factor = module.covariant(covariant)
    signs = edges.nodes_that([axis.scaling == "sign" for axis in edges.graph.axes])
    product = torch.where(signs, factor, factor.relu()) * module.contravariant(contravariant)
    whole = _size(edges, product)
    product = product / whole
    strength = (product.square().mean(1, keepdim=True) + 1e-4).log()
    return torch.cat([module.norm(product), strength, whole.log().asinh()], dim=1)


def _size(edges: EdgeGraph, states: Tensor) -> Tensor:
    """Root mean squares over each model's axis, 1 where all is zero. Shape: [N, 1]."""
    squares = scatter(states.square().mean(1), edges.of_axis, dim_size=edges.models * edges.axes, reduce="mean")
    return torch.where(squares > 0, squares, 1).sqrt()[edges.of_axis, None]


def edge_gnn(encoder: EdgeGNN, edges: EdgeGraph) -> Tensor:
    """Returns tokens of `edge_gnn` from the network reading. Shape: [models, L, 16 H + E + 1]."""
    pass_on, sweeps, layers = Messages(), encoder.sweeps, edges.models * edges.layers
    weights = [each.split(edges.counts) for each in edges.gated((edges.weight, edges.weight), sweeps.tap_gates)]
    x, y = edges.swept((sweeps.input_codes, sweeps.output_codes), weights, sweeps.bias_direction)
    h = encoder.start(torch.cat([x / _size(edges, x), y / _size(edges, y)], dim=1))
    norm = scatter(edges.weight[:, 0].square(), edges.of_layer, dim_size=layers, reduce="mean").sqrt()
    e = edges.weight / norm[edges.of_layer, None] * encoder.weight_direction
    codes = edges.tap_codes(encoder.tap_codes, single=0.0)
    e = e if codes is None else e + codes
    sides = [(edges.ahead, edges.shares[0]), (edges.back, edges.shares[1])]
    for step in encoder.steps:
        ends = step.of_output(h)[edges.ahead[1]] + step.of_input(h)[edges.ahead[0]]
        e = e + step.edge_update(step.own(e) + ends)
        heard = [h]
        for (index, (root, mean)), message in zip(sides, (step.forward_message, step.backward_message), strict=True):
            heard += [pass_on(message(h), index, e * root), scatter(e * mean, index[1], dim_size=edges.nodes)]
        h = h + step.node_update(torch.cat(heard, dim=1))
    means = scatter(e, edges.of_layer, dim_size=layers, reduce="mean").view(edges.models, edges.layers, -1)
    return edges.tokens(encoder.mean, encoder.readout(h), means, norm.log().view(edges.models, -1, 1))
