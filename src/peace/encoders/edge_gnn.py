"""The network-wide graph encoder with hidden features on weights, for small networks."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, Symmetry
from peace.encoders.graph_decoder import GraphDecoder
from peace.encoders.places import HEADS, NodeMean, PlaceCodes
from peace.encoders.sweeps import Sweeps, unit
from peace.errors import InputError
from peace.graph.stack import Stack
from peace.graph.weight_graph import Layer, WeightGraph


@ENCODERS.register("edge_gnn")
class EdgeGNN(nn.Module):
    """One token per layer from message passing in which every weight has a state of its own, as every neuron has.

    1. *Start.* The state of weight w_ijt is e = u·w_ijt/r + c_t, r the layer's root mean square and c a learned code of
       the tap's place; that of a node a linear map of what reaches it and what it contributes, `peace.encoders.sweeps`.
    2. *Steps.* `num_layers` times, for each layer e ← e + MLP[LayerNorm(e), h_i, h_j]; node i hears
       [Σ_jt e ⊙ V h_j / √(number of weights), mean of e] from what it reads, and likewise from what reads it, k layers
       being summed and divided by √k; then h ← h + MLP(LayerNorm[h, heard]).
    3. *Readout.* The token of a layer holds the means of a perceptron of h over its output nodes and its input nodes,
       8 weighted sums over those with identities, the mean of e, and log r.

    Memory and time grow with weights times `edge_dim`, where `network_gnn` needs a multiple of the nodes and,
    along kernels that fewer than 8 nodes send, of their taps.

    Args:
        hidden_dim: H, of nodes.
        edge_dim: E, of weights.
        num_layers: Number of steps.
        max_weights: Networks with more weights are refused.
        code_dim: Numbers that a decoder learns of each hidden node, beside the model's embedding.

    Shape:
        Stack of B models with L layers -> [B, L, 16 H + E + 1].

    Raises:
        InputError: The networks have more weights than `max_weights`.

    Reference:
        Lim et al. 2024, arXiv:2312.04501, equation 2: both ends update an edge, edges update nodes; their graph has no
        taps, its messages are perceptrons of [h_i, h_j, e]. Kofinas et al. 2024, arXiv:2403.12143, for neurons as nodes
        with positions on inputs and outputs.
    """

    symmetries: ClassVar[frozenset[Symmetry]] = frozenset({"permutation"})

    def __init__(
        self,
        hidden_dim: PositiveInt = 64,
        edge_dim: PositiveInt = 16,
        num_layers: PositiveInt = 2,
        max_weights: PositiveInt = 100_000,
        code_dim: PositiveInt = 4,
    ) -> None:
        super().__init__()
        self.hidden_dim, self.code_dim = hidden_dim, code_dim
        self.output_dim, self.max_weights = 2 * HEADS * hidden_dim + edge_dim + 1, max_weights
        self.sweeps = Sweeps(hidden_dim)
        self.start = nn.Linear(2 * hidden_dim, hidden_dim)
        self.weight_direction = nn.Parameter(torch.randn(edge_dim))
        self.tap_codes = PlaceCodes(edge_dim)
        self.steps = nn.ModuleList(_Step(hidden_dim, edge_dim) for _ in range(num_layers))
        self.readout = nn.Sequential(nn.LayerNorm(hidden_dim), _perceptron(hidden_dim, hidden_dim, hidden_dim))
        self.mean = NodeMean()

    def forward(self, stack: Stack) -> Tensor:
        """Returns a token per layer. Shape: [B, L, 16 H + E + 1]."""
        return self.read(stack)[0]

    def decoder(self, embedding_dim: int) -> GraphDecoder:
        """Returns a fresh decoder, which takes what `read` returns of each node."""
        return GraphDecoder(embedding_dim, self.hidden_dim, self.code_dim)

    def read(self, stack: Stack) -> tuple[Tensor, Sequence[Tensor]]:
        """Returns a token per layer, and the state of each axis's nodes. Shapes: as above, and [B, n, H] each."""
        self._check(stack)
        ahead, back, _ = self.sweeps(stack)
        swept = zip(ahead.states, back.states, strict=True)
        nodes = [self.start(torch.cat([unit(states)[0] for states in pair], dim=2)) for pair in swept]
        scaled, logs = zip(*(unit(weight.flatten(2)) for weight in stack.weights), strict=True)
        edges = [
            self._edges(layer, unit_rows.unflatten(2, (-1, layer.n_tap)))
            for layer, unit_rows in zip(stack.graph.layers, scaled, strict=True)
        ]
        for step in self.steps:
            nodes, edges = step(stack.graph, nodes, edges)
        read = [self.mean(self.readout(states), axis) for states, axis in zip(nodes, stack.graph.axes, strict=True)]
        tokens = [
            torch.cat([read[layer.out_axis], read[layer.in_axis], edge.mean((1, 2, 3, 4)), log[:, None]], dim=1)
            for layer, edge, log in zip(stack.graph.layers, edges, logs, strict=True)
        ]
        return torch.stack(tokens, dim=1), nodes

    def _check(self, stack: Stack) -> None:
        weights = sum(weight[0].numel() for weight in stack.weights)
        if weights > self.max_weights:
            do = "encode such networks with network_gnn, or raise max_weights where there is memory for them"
            raise InputError(
                "edge_gnn keeps states of every weight", got=f"{weights:,} weights a model",
                expected=f"at most max_weights = {self.max_weights:,}", do=do,
            )  # fmt: skip

    def _edges(self, layer: Layer, weight: Tensor) -> Tensor:
        """The first states of a layer's weights. Shape: [B, G, n_out / G, n_in / G, n_tap, E]."""
        states = weight.unflatten(1, (layer.groups, -1))[..., None] * self.weight_direction
        return states + self.tap_codes.of(layer.taps, weight) if layer.n_tap > 1 else states


class _Step(nn.Module):
    """One synchronous step: weights from their ends, then nodes from their weights."""

    def __init__(self, hidden_dim: int, edge_dim: int) -> None:
        super().__init__()
        self.of_output, self.of_input = (nn.Linear(hidden_dim, edge_dim, bias=False) for _ in range(2))
        self.own = nn.Sequential(nn.LayerNorm(edge_dim), nn.Linear(edge_dim, edge_dim))
        self.edge_update = nn.Sequential(nn.GELU(), nn.Linear(edge_dim, edge_dim))
        self.forward_message, self.backward_message = (nn.Linear(hidden_dim, edge_dim, bias=False) for _ in range(2))
        heard = hidden_dim + 4 * edge_dim
        self.node_update = nn.Sequential(nn.LayerNorm(heard), _perceptron(heard, hidden_dim, hidden_dim))

    def forward(
        self, graph: WeightGraph, nodes: list[Tensor], edges: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the next states of every axis and of every layer's weights."""
        edges = [self._updated(edge, nodes[layer.out_axis], nodes[layer.in_axis])
                 for layer, edge in zip(graph.layers, edges, strict=True)]  # fmt: skip
        nothing = [edges[0].new_zeros(len(state), state.shape[1], 2 * edges[0].shape[-1]) for state in nodes]
        ahead, back = list(nothing), list(nothing)
        for layer, edge in zip(graph.layers, edges, strict=True):
            out, into = layer.out_axis, layer.in_axis
            ahead[out] = ahead[out] + _heard(edge, self.forward_message(nodes[into]), 3) / _many(graph.writers(out))
            back[into] = back[into] + _heard(edge, self.backward_message(nodes[out]), 2) / _many(graph.readers(into))
        heard = zip(nodes, ahead, back, strict=True)
        return [state[0] + self.node_update(torch.cat(state, dim=2)) for state in heard], edges

    def _updated(self, edge: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Weights after one more look at their ends. Shape: [B, G, n_out / G, n_in / G, n_tap, E]."""
        of_outputs = self.of_output(outputs).unflatten(1, (edge.shape[1], -1))[:, :, :, None, None]
        of_inputs = self.of_input(inputs).unflatten(1, (edge.shape[1], -1))[:, :, None, :, None]
        return edge + self.edge_update(self.own(edge) + of_outputs + of_inputs)


def _heard(edge: Tensor, sent: Tensor, over: int) -> Tensor:
    """What nodes at one end of a layer hear from those at the other, which `over` counts. Shape: [B, n, 2 E]."""
    other = sent.unflatten(1, (edge.shape[1], -1)).unsqueeze(5 - over).unsqueeze(4)
    total = (edge * other).sum((over, 4)) / (edge.shape[over] * edge.shape[4]) ** 0.5
    return torch.cat([total, edge.mean((over, 4))], dim=3).flatten(1, 2)


def _many(layers: tuple[int, ...]) -> float:
    return len(layers) ** 0.5


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
