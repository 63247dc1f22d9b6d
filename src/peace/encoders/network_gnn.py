"""The network-wide graph encoder: nodes shared between layers, so that the wiring from inputs to outputs is seen."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, Symmetry
from peace.encoders.dense_messages import to_inputs, to_outputs
from peace.encoders.graph_decoder import GraphDecoder
from peace.encoders.layer_statistics import STATISTICS_DIM, layer_statistics
from peace.encoders.places import HEADS, NodeMean, PlaceCodes
from peace.errors import InputError
from peace.graph.canonical import norms
from peace.graph.stack import Stack

FILTERS = 8
"""Functions of a tap's place by which kernels are filtered, where at least as many nodes send."""


@ENCODERS.register("network_gnn")
class NetworkGNN(nn.Module):
    """One token per layer from message passing over the whole network.

    All layers that touch an axis share its nodes. Along a layer a message is Σ_j Σ_t A_ijt γ_t ⊙ x_j, A scaled to
    root-mean-square row norm 1. γ_t holds 8 learned functions of the tap's place, each for an eighth of the channels:
    a kernel is filtered 8 times before any message is sent, and messages cost as if it had one tap. Where fewer than 8
    nodes send (a grey image's one channel) each channel has a function of its own, at the cost of a message along each
    tap: 8 would leave 8 numbers of a kernel.

    1. *Sweeps.* Codes of the input nodes' positions go forward through all layers, codes of the output nodes' positions
       backward, by messages alone. A node then knows x, what reaches it from each input, and y, what it contributes to
       each output: the linear part of the network, as random projections of products along paths. Both start a node's
       state, with its bias. What k layers send to one axis is summed and divided by √k, so that neither residual
       streams nor concatenations grow with depth.
    2. *Steps.* `num_layers` times, states go along every layer in both directions and a node updates
       h ← h + W (U₁ s ⊙ U₂ s), s = LayerNorm([h, m_forward, m_backward]). They are sent as they are, without a linear
       map before: where a layer has one tap, the sum over neighbours commutes with it, and the update has one after.
       Products hold what comes in times what goes out, which is what paths through a node add to the function.
    3. *Readout.* Each node's feature is U₁ s ⊙ U₂ s, s = LayerNorm([h, x, y]). The token of a layer holds the mean over
       its output nodes and over its input nodes, and the logarithm of its norm. Nodes with identities (pixel 17, class
       3) are weighted by 8 learned functions of their position instead, so that the token keeps who is who. With
       `statistics` the layer's own stand beside: of a thousand numbers the norm is one, and easily overheard.

    Args:
        hidden_dim: H, a multiple of 8.
        num_layers: Number of message passing steps after the sweeps.
        code_dim: Numbers that a decoder learns of each hidden node, beside the model's embedding.
        statistics: Whether tokens hold `layer_statistics` too.

    Raises:
        InputError: `hidden_dim` is no multiple of 8.

    Shape:
        Stack of B models with L layers -> [B, L, 16 H + 1], with statistics [B, L, 16 H + 13].

    Reference:
        Kofinas et al. 2024, arXiv:2403.12143, for the graph (neurons as nodes, weights as edges, position features on
        inputs and outputs). Shazeer 2020, arXiv:2002.05202, for products of two linear maps ("bilinear") in place of a
        perceptron's first layer. Sweeps, filters of taps and dense products are ours.
    """

    symmetries: ClassVar[frozenset[Symmetry]] = frozenset({"permutation"})

    def __init__(
        self,
        hidden_dim: PositiveInt = 64,
        num_layers: PositiveInt = 1,
        code_dim: PositiveInt = 4,
        statistics: bool = False,
    ) -> None:
        super().__init__()
        if hidden_dim % FILTERS:
            raise InputError("channels do not divide into filters", got=f"hidden_dim {hidden_dim}",
                             expected=f"a multiple of {FILTERS}", do="change encoder.hidden_dim")  # fmt: skip
        self.hidden_dim, self.code_dim, self.statistics = hidden_dim, code_dim, statistics
        self.output_dim = 2 * HEADS * hidden_dim + 1 + STATISTICS_DIM * statistics
        self.input_codes = PlaceCodes(hidden_dim)
        self.output_codes = PlaceCodes(hidden_dim)
        self.tap_filters = PlaceCodes(2 * hidden_dim)
        self.bias_direction = nn.Parameter(torch.randn(hidden_dim))
        self.start = nn.Linear(2 * hidden_dim, hidden_dim)
        self.steps = nn.ModuleList(_Step(hidden_dim) for _ in range(num_layers))
        # Without a linear map behind: means are linear, and every aggregator has one of its own.
        self.readout = _Products(3 * hidden_dim, hidden_dim)
        self.mean = NodeMean()

    def forward(self, stack: Stack) -> Tensor:
        """Returns a token per layer. Shape: [B, L, output_dim]."""
        return self.read(stack)[0]

    def decoder(self, embedding_dim: int) -> GraphDecoder:
        """Returns a fresh decoder, which takes what `read` returns of each node."""
        return GraphDecoder(embedding_dim, self.hidden_dim, self.code_dim)

    def read(self, stack: Stack) -> tuple[Tensor, Sequence[Tensor]]:
        """Returns a token per layer, and the state of each axis's nodes. Shapes: [B, L, output_dim], [B, n, H] each."""
        sizes = [axis.size for axis in stack.graph.axes]
        scales = [norms(weight) for weight in stack.weights]
        links = [_Link(stack, place, norm, self._functions(stack, place)) for place, norm in enumerate(scales)]
        swept = torch.cat([torch.cat(sides, dim=1) for sides in self._sweeps(stack, links)], dim=2)
        states = self.start(swept) + _biases(stack, scales)[:, :, None] * self.bias_direction
        # Nodes of all axes stand in one tensor, so that what is done to each node is done once.
        for step in self.steps:
            states = step(states, sizes, links)
        features = self.readout(torch.cat([states, swept], dim=2)).split(sizes, dim=1)
        read = [self.mean(nodes, axis) for nodes, axis in zip(features, stack.graph.axes, strict=True)]
        tokens = [
            torch.cat([read[layer.out_axis], read[layer.in_axis], norm.log()[:, None]], dim=1)
            for layer, norm in zip(stack.graph.layers, scales, strict=True)
        ]
        if self.statistics:
            known = map(layer_statistics, stack.weights, stack.biases)
            tokens = [torch.cat(pair, dim=1) for pair in zip(tokens, known, strict=True)]
        return torch.stack(tokens, dim=1), states.split(sizes, dim=1)

    def _functions(self, stack: Stack, place: int) -> Sequence[Tensor | None]:
        """Functions of a layer's taps, of each channel, on the way to its outputs and back to its inputs."""
        layer = stack.graph.layers[place]
        if layer.n_tap == 1:
            return None, None
        return self.tap_filters.of(layer.taps, stack.weights[0]).chunk(2, dim=1)

    def _sweeps(self, stack: Stack, links: list["_Link"]) -> tuple[list[Tensor], list[Tensor]]:
        """What reaches each node from the inputs, and what it contributes to the outputs. Shape: [B, n, H] each."""
        ahead, back, like = [], [], stack.weights[0]
        for axis in stack.graph.axes:
            nothing = like.new_zeros(len(stack), axis.size, self.hidden_dim)
            for side, codes, role in ((ahead, self.input_codes, "input"), (back, self.output_codes, "output")):
                side.append(codes.of(axis.shape, like).expand_as(nothing) if axis.role == role else nothing)
        heard = [int(axis.role == "input") for axis in stack.graph.axes]
        for link in links:
            ahead[link.out_axis] = _met(ahead[link.out_axis], link.forward(ahead[link.in_axis]), heard[link.out_axis])
            heard[link.out_axis] += 1
        heard = [int(axis.role == "output") for axis in stack.graph.axes]
        for link in reversed(links):
            back[link.in_axis] = _met(back[link.in_axis], link.backward(back[link.out_axis]), heard[link.in_axis])
            heard[link.in_axis] += 1
        return ahead, back


class _Link:
    """One layer of a stack as something that messages go along."""

    def __init__(self, stack: Stack, place: int, norm: Tensor, functions: Sequence[Tensor | None]) -> None:
        layer, weight = stack.graph.layers[place], stack.weights[place]
        self.out_axis, self.in_axis, self.groups = layer.out_axis, layer.in_axis, layer.groups
        n_out, n_in = weight.shape[1] // layer.groups, weight.shape[2]
        self.ahead = _filtered(weight, weight.shape[1] ** 0.5 / norm, functions[0], n_in)
        self.back = _filtered(weight, (layer.groups * n_in) ** 0.5 / norm, functions[1], n_out)

    def forward(self, states: Tensor) -> Tensor:
        """Returns messages to the output nodes. Shape: [B, n_in, H] -> [B, n_out, H]."""
        return self._sent(to_outputs, *self.ahead, states)

    def backward(self, states: Tensor) -> Tensor:
        """Returns messages to the input nodes. Shape: [B, n_out, H] -> [B, n_in, H]."""
        return self._sent(to_inputs, *self.back, states)

    def _sent(self, send: Callable[..., Tensor], weight: Tensor, gates: Tensor | None, states: Tensor) -> Tensor:
        if len(weight) == len(states):
            return send(weight, states, gates, self.groups)
        # Each filter is a model of its own that moves its share of the channels.
        shares = states.unflatten(2, (FILTERS, -1)).transpose(1, 2).flatten(0, 1)
        return send(weight, shares, None, self.groups).unflatten(0, (-1, FILTERS)).transpose(1, 2).flatten(2)


def _filtered(weight: Tensor, scale: Tensor, functions: Tensor | None, senders: int) -> tuple[Tensor, Tensor | None]:
    """Scaled weights and gates: each filter's sum over taps and none, or for few senders all weights and functions.

    Shape: [B, n_out, n_in, n_tap], [B] -> [8 B, n_out, n_in, 1], or as it came.
    """
    if functions is None or senders < FILTERS:
        return weight * scale[:, None, None, None], functions
    # Filters are scaled instead, being the smaller.
    filters = functions[:, :: functions.shape[1] // FILTERS].T * scale[:, None, None]
    return (filters @ weight.flatten(1, 2).mT).flatten(0, 1).unflatten(1, weight.shape[1:3])[..., None], None


class _Products(nn.Module):
    """Products of two linear maps of the same features, normalised before."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.factors = nn.Linear(inputs, 2 * outputs)

    def forward(self, features: Tensor) -> Tensor:
        first, second = self.factors(self.norm(features)).chunk(2, dim=-1)
        return first * second


class _Step(nn.Module):
    """One synchronous step of message passing along all layers."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.update = nn.Sequential(_Products(3 * hidden_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim))

    def forward(self, states: Tensor, sizes: list[int], links: list[_Link]) -> Tensor:
        """Returns the next states of every axis's nodes. Shape: [B, N, H]."""
        sent = states.split(sizes, dim=1)
        ahead: list[Tensor | None] = [None] * len(sizes)
        back: list[Tensor | None] = [None] * len(sizes)
        for link in links:
            ahead[link.out_axis] = _sum(ahead[link.out_axis], link.forward(sent[link.in_axis]))
            back[link.in_axis] = _sum(back[link.in_axis], link.backward(sent[link.out_axis]))
        met = [_joined(side, sizes, states) for side in (ahead, back)]
        return states + self.update(torch.cat([states, *met], dim=2))


def _sum(total: Tensor | None, message: Tensor) -> Tensor:
    return message if total is None else total + message


def _joined(axes: list[Tensor | None], sizes: list[int], like: Tensor) -> Tensor:
    """Messages to the nodes of all axes, zero where an axis has none. Shape: [B, N, H]."""
    shape = like.shape
    parts = [
        like.new_zeros(shape[0], size, shape[2]) if axis is None else axis
        for axis, size in zip(axes, sizes, strict=True)
    ]
    return torch.cat(parts, dim=1)


def _biases(stack: Stack, scales: list[Tensor]) -> Tensor:
    """The biases added to each node, in units of its axis's incoming weights. Shape: [B, N]."""
    totals = [scales[0].new_zeros(len(stack), axis.size) for axis in stack.graph.axes]
    for layer, bias, norm in zip(stack.graph.layers, stack.biases, scales, strict=True):
        if bias is not None:
            scale = stack.graph.axes[layer.out_axis].size ** 0.5 / norm
            totals[layer.out_axis] = totals[layer.out_axis] + bias * scale[:, None]
    return torch.cat(totals, dim=1)


def _met(state: Tensor, message: Tensor, heard: int) -> Tensor:
    """The sum of messages over the root of their number, after one more. Shape: [B, n, H] each."""
    return (state * heard**0.5 + message) / (heard + 1) ** 0.5 if heard else state + message
