"""Weight graphs as PyG `Data`, edge by edge: for the backbones that PyG has, and to test the dense encoders against."""

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Data

from peace.graph.stack import Stack


def to_pyg(stack: Stack, model: int, reading: Literal["layers", "network"] = "network") -> Data:
    """Returns one model of a stack as a graph with one directed edge per weight.

    Args:
        stack: The models.
        model: Which of them.
        reading: `network` shares an axis's nodes between all layers that touch it; `layers` gives each layer nodes of
            its own, first those it reads, then those it writes.

    Returns:
        Data with `edge_index` [2, E] from reading to written node, `edge_attr` [E, 1] the weights, `edge_layer` [E] and
        `edge_tap` [E] their layer and tap, `node_axis` [N], `node_layer` [N] (-1 in the network reading), `node_place`
        [N] (place on its axis) and `node_bias` [N, 1], the sum of the biases that the layers writing to it add. No name
        ends in "batch" or holds "index" but `edge_index`: PyG shifts such attributes when it joins graphs.
    """
    nodes: dict[tuple[int, int, str], int] = {}
    columns: dict[str, list[Tensor]] = {name: [] for name in ("axis", "layer", "place", "bias")}
    edges, attributes, layers, taps = [], [], [], []

    def node(layer: int, axis: int, side: str) -> int:
        """Place of an axis's first node, made when first asked for."""
        name = (-1, axis, "") if reading == "network" else (layer, axis, side)
        if name not in nodes:
            size = stack.graph.axes[axis].size
            nodes[name] = sum(len(part) for part in columns["place"])
            columns["axis"].append(torch.full((size,), axis))
            columns["layer"].append(torch.full((size,), name[0]))
            columns["place"].append(torch.arange(size))
            columns["bias"].append(stack.weights[0].new_zeros(size))
        return nodes[name]

    for number, layer in enumerate(stack.graph.layers):
        weight, bias = stack.weights[number][model], stack.biases[number]
        source, target = node(number, layer.in_axis, "in"), node(number, layer.out_axis, "out")
        outs, ins, tap = torch.meshgrid(*map(torch.arange, weight.shape), indexing="ij")
        ins = ins + outs // (len(weight) // layer.groups) * weight.shape[1]
        edges.append(torch.stack([ins.flatten() + source, outs.flatten() + target]))
        attributes.append(weight.flatten())
        layers.append(torch.full((weight.numel(),), number))
        taps.append(tap.flatten())
        if bias is not None:
            place = list(nodes.values()).index(target)
            columns["bias"][place] = columns["bias"][place] + bias[model]
    return Data(
        edge_index=torch.cat(edges, dim=1),
        edge_attr=torch.cat(attributes)[:, None],
        edge_layer=torch.cat(layers),
        edge_tap=torch.cat(taps),
        node_axis=torch.cat(columns["axis"]),
        node_layer=torch.cat(columns["layer"]),
        node_place=torch.cat(columns["place"]),
        node_bias=torch.cat(columns["bias"])[:, None],
        num_nodes=sum(len(part) for part in columns["place"]),
    )
