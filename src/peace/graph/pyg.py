"""Weight graphs as PyG `Data`, edge by edge: for the backbones that PyG has, and to test the dense encoders against."""

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from peace.graph.stack import Stack
from peace.graph.weight_graph import WeightGraph

GraphReading = Literal["layers", "network"]
"""`network` shares an axis's nodes between all layers that touch it; `layers` gives each layer nodes of its own, first
those it reads, then those it writes."""


def to_pyg(stack: Stack, model: int, reading: GraphReading = "network") -> Data:
    """Returns one model of a stack as a graph with one directed edge per weight.

    Args:
        stack: The models.
        model: Which of them.
        reading: Whose the nodes are, see `GraphReading`.

    Returns:
        Data with `edge_index` [2, E] from reading to written node, `edge_attr` [E, 1] the weights, `edge_layer` [E] and
        `edge_tap` [E] their layer and tap, `node_axis` [N], `node_layer` [N] (-1 in the network reading), `node_place`
        [N] (place on its axis) and `node_bias` [N, 1], the sum of the biases that the layers writing to it add. No name
        ends in "batch" or holds "index" but `edge_index`: PyG shifts such attributes when it joins graphs.
    """
    alone = to_pyg_batch(stack.select(slice(model, model + 1)), reading).to_dict()
    return Data.from_dict({name: value for name, value in alone.items() if name not in ("batch", "ptr")})


def to_pyg_batch(stack: Stack, reading: GraphReading = "network") -> Batch:
    """Returns all models of a stack as the one graph that `Batch.from_data_list` makes of `to_pyg` of each.

    The models follow each other, all with the same nodes and edges; `batch` [B N] and `ptr` [B + 1] tell them apart.
    """
    models, device = len(stack), stack.weights[0].device
    spans = Spans(stack.graph, reading)
    edges = torch.cat([_edges(stack, spans, layer) for layer in range(len(stack.weights))], dim=1)
    first = spans.nodes * torch.arange(models + 1, device=device)
    return Batch(
        edge_index=(edges[:2, None] + first[:-1, None]).flatten(1),
        edge_attr=torch.cat([weight.flatten(1) for weight in stack.weights], dim=1).view(-1, 1),
        edge_layer=edges[2].repeat(models),
        edge_tap=edges[3].repeat(models),
        node_axis=spans.column(spans.axes).to(device).repeat(models),
        node_layer=spans.column(spans.owners).to(device).repeat(models),
        node_place=torch.cat([torch.arange(size, device=device) for size in spans.sizes]).repeat(models),
        node_bias=_biases(stack, spans).view(-1, 1),
        num_nodes=models * spans.nodes,
        batch=torch.arange(models, device=device).repeat_interleave(spans.nodes),
        ptr=first,
    )


class Spans:
    """Where the nodes of a model stand, in the order in which layers ask for them.

    Attributes:
        axes: The axis of each span of nodes.
        owners: The layer that it belongs to, -1 in the network reading.
        sizes: Its number of nodes.
        nodes: N, all together.
        read: The nodes that each layer reads.
        written: The nodes that each layer writes.
    """

    def __init__(self, graph: WeightGraph, reading: GraphReading) -> None:
        self.nodes = 0
        self.axes: list[int] = []
        self.owners: list[int] = []
        self.sizes: list[int] = []
        found: dict[tuple[int, int, str], slice] = {}
        sides: dict[str, list[slice]] = {"read": [], "written": []}
        for number, layer in enumerate(graph.layers):
            for side, axis in (("read", layer.in_axis), ("written", layer.out_axis)):
                name = (axis, -1, "") if reading == "network" else (axis, number, side)
                if name not in found:
                    found[name] = self._another(axis, name[1], graph.axes[axis].size)
                sides[side].append(found[name])
        self.read, self.written = sides["read"], sides["written"]

    def _another(self, axis: int, owner: int, size: int) -> slice:
        self.axes.append(axis)
        self.owners.append(owner)
        self.sizes.append(size)
        self.nodes += size
        return slice(self.nodes - size, self.nodes)

    def column(self, values: list[int]) -> Tensor:
        """Returns a value of each span, node by node. Shape: [N]."""
        return torch.tensor(values).repeat_interleave(torch.tensor(self.sizes))


def _edges(stack: Stack, spans: Spans, number: int) -> Tensor:
    """Of each weight of a layer the node read, the node written, the layer and the tap. Shape: [4, E]."""
    weight, groups = stack.weights[number], stack.graph.layers[number].groups
    n_out, n_in, n_tap = weight.shape[1:]
    out = torch.arange(n_out, device=weight.device)[:, None, None]
    into = torch.arange(n_in, device=weight.device)[:, None] + out // (n_out // groups) * n_in
    tap = torch.arange(n_tap, device=weight.device)
    parts = (spans.read[number].start + into, spans.written[number].start + out, torch.full_like(tap, number), tap)
    return torch.stack([part.expand(n_out, n_in, n_tap).flatten() for part in parts])


def _biases(stack: Stack, spans: Spans) -> Tensor:
    """What layers add at each node. Shape: [B, N]."""
    total = stack.weights[0].new_zeros(len(stack), spans.nodes)
    for bias, written in zip(stack.biases, spans.written, strict=True):
        if bias is not None:
            rest = (written.start, spans.nodes - written.stop)
            total = total + torch.nn.functional.pad(bias, rest)
    return total
