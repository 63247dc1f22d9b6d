"""Encoders that send one message an edge over PyG's graph of a whole stack: what GraphSAGE, GAT and Geom-GCN share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from peace.encoders import LayerEncoder
from peace.encoders.places import PlaceCodes
from peace.errors import InputError
from peace.graph.canonical import norms
from peace.graph.pyg import GraphReading, Spans, to_pyg_batch
from peace.graph.stack import Stack
from peace.graph.weight_graph import Axis, Layer, WeightGraph

_FEATURES = 7


@dataclass(frozen=True)
class EdgeList:
    """The weights of a stack as edges: first each from the node that is read to the one that is written, then back.

    Attributes:
        index: Sending and receiving node. Shape: [2, 2 E].
        gate: The weight, at root mean square 1 in its layer, times a learned vector of its tap and direction. Shape:
            [2 E, H].
        share: 1 / √k, k being how many edges of its layer the receiving node has in this direction. Shape: [2 E, 1].
        place: The sum of a node's weights times their shares, both directions together. Shape: [N].
        span: Number of the axis of one model that a node stands on. Shape: [N].
    """

    index: Tensor
    gate: Tensor
    share: Tensor
    place: Tensor
    span: Tensor


class EdgeListEncoder(LayerEncoder):
    """Steps of message passing over PyG's edge lists, and a token per layer.

    Weights enter at root mean square 1 in their layer, biases in units of the root-mean-square row norm. A node starts
    from a linear map of its bias and of statistics of the weights that it writes and reads (their sum over the root of
    their number, their mean absolute value and mean square); in the network reading, nodes with identities (pixel 17,
    class 3) add a code of their position. Then h ← h + ReLU(step(LayerNorm(h))), `num_layers` times. A layer's token
    holds the means of h over the nodes that it writes and over those that it reads, and the logarithm of its norm.

    The graph is undirected, so that what is read hears of what is written; the learned vector that multiplies a weight
    knows direction and tap. Every weight costs memory for several vectors of H numbers: made for small networks.

    Args:
        step: Makes a module that maps nodes [N, H] and an `EdgeList` to nodes [N, H].
        hidden_dim: H.
        num_layers: T, the number of steps.
        reading: `layers` takes each layer as a graph of its own, `network` shares nodes between layers.

    Shape:
        Stack of B models with L layers -> [B, L, 2 H + 1].
    """

    def __init__(self, step: Callable[[], nn.Module], hidden_dim: int, num_layers: int, reading: GraphReading) -> None:
        super().__init__()
        self.reading, self.output_dim = reading, 2 * hidden_dim + 1
        self.layer_wise = reading == "layers"
        self.tap_gates = PlaceCodes(2 * hidden_dim)
        self.start = nn.Linear(_FEATURES, hidden_dim)
        roles = () if self.layer_wise else ("input", "output")
        self.positions = nn.ModuleDict({role: PlaceCodes(hidden_dim) for role in roles})
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(num_layers))
        self.steps = nn.ModuleList(step() for _ in range(num_layers))

    def forward(self, stack: Stack) -> Tensor:
        """Returns tokens in the order of the layers. Shape: [B, L, 2 H + 1]."""
        return super().forward(stack) if self.layer_wise else self._tokens(stack)

    def token(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the tokens of one layer of B models. Shape: [B, 2 H + 1].

        Raises:
            InputError: The encoder reads the whole network.
        """
        if not self.layer_wise:
            do = "set encoder.reading=layers"
            raise InputError("the encoder reads networks, not layers", got="reading=network", do=do)
        sizes = {"out": weight.shape[1], "in": layer.groups * weight.shape[2]}
        axes = tuple(Axis(name, (size,), "hidden", permutable=True) for name, size in sizes.items())
        graph = WeightGraph(axes, (replace(layer, out_axis=0, in_axis=1),))
        return self._tokens(Stack(graph, (weight,), (bias,)))[:, 0]

    def _tokens(self, stack: Stack) -> Tensor:
        scales = [norms(weight) for weight in stack.weights]
        unit, spans = _in_units(stack, scales), Spans(stack.graph, self.reading)
        edges, state = self._read(unit, spans)
        for norm, step in zip(self.norms, self.steps, strict=True):
            state = state + torch.relu(step(norm(state), edges))
        nodes = state.view(len(stack), spans.nodes, -1)
        tokens = [
            torch.cat([nodes[:, written].mean(1), nodes[:, read].mean(1), norm.log()[:, None]], dim=1)
            for written, read, norm in zip(spans.written, spans.read, scales, strict=True)
        ]
        return torch.stack(tokens, dim=1)

    def _read(self, stack: Stack, spans: Spans) -> tuple[EdgeList, Tensor]:
        """The edges of a stack in units, and the first states of its nodes. Shape of these: [B N, H]."""
        data = to_pyg_batch(stack, self.reading)
        index = torch.cat([data.edge_index, data.edge_index.flip(0)], dim=1)
        share = _shares(stack)
        weight = data.edge_attr.repeat(2, 1)
        ahead, back = (
            _statistics(data.edge_attr, part, side[1], data.num_nodes)
            for part, side in zip(share.chunk(2), (data.edge_index, data.edge_index.flip(0)), strict=True)
        )
        state = self.start(torch.cat([data.node_bias, ahead, back], dim=1))
        if self.positions:
            state = state + self._identities(stack.graph.axes, spans, state).repeat(len(stack), 1)
        span = spans.column(list(range(len(spans.sizes)))).to(weight.device)
        span = data.batch * len(spans.sizes) + span.repeat(len(stack))
        gate = weight * self._gates(stack)
        return EdgeList(index, gate, share, ahead[:, 0] + back[:, 0], span), state

    def _gates(self, stack: Stack) -> Tensor:
        """The learned vector of each edge's tap, both directions. Shape: [2 E, H]."""
        each = [
            self.tap_gates.of(layer.taps, weight).repeat(weight.shape[1] * weight.shape[2], 1)
            for layer, weight in zip(stack.graph.layers, stack.weights, strict=True)
        ]
        return torch.cat([part.repeat(len(stack), 1) for part in torch.cat(each).chunk(2, dim=1)])

    def _identities(self, axes: Sequence[Axis], spans: Spans, like: Tensor) -> Tensor:
        """Codes of the positions of nodes with identities, zeros for all others. Shape: [N, H]."""
        codes = []
        for place in spans.axes:
            axis = axes[place]
            known = axis.role in self.positions and not axis.permutable
            cells = self.positions[axis.role].of(axis.shape, like) if known else None
            codes.append(like.new_zeros(axis.size, like.shape[1]) if cells is None else cells)
        return torch.cat(codes)


def _in_units(stack: Stack, scales: Sequence[Tensor]) -> Stack:
    """Weights at root mean square 1 in each layer, biases in units of the root-mean-square row norm."""
    weights = tuple(
        weight * (weight[0].numel() ** 0.5 / norm)[:, None, None, None]
        for weight, norm in zip(stack.weights, scales, strict=True)
    )
    biases = tuple(
        None if bias is None else bias * (bias.shape[1] ** 0.5 / norm)[:, None]
        for bias, norm in zip(stack.biases, scales, strict=True)
    )
    return replace(stack, weights=weights, biases=biases)


def _shares(stack: Stack) -> Tensor:
    """1 / √(edges of its layer at the receiving node), both directions. Shape: [2 E, 1]."""
    each = []
    for layer, weight in zip(stack.graph.layers, stack.weights, strict=True):
        _, n_out, n_in, n_tap = weight.shape
        counts = weight.new_tensor([n_in * n_tap, n_out // layer.groups * n_tap])
        each.append(counts.rsqrt().expand(weight[0].numel(), 2))
    return torch.cat([part.repeat(len(stack)) for part in torch.cat(each).unbind(1)])[:, None]


def _statistics(weight: Tensor, share: Tensor, receiver: Tensor, nodes: int) -> Tensor:
    """Of each node's weights in one direction the sum over √k, the mean absolute value and mean square. [N, 3]."""
    each = torch.cat([weight * share, weight.abs() * share.square(), (weight * share).square()], dim=1)
    return scatter(each, receiver, dim_size=nodes)
