"""Sweeps: what reaches each node from the inputs and what it contributes to the outputs, at any depth in range."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from peace.encoders.dense_messages import to_inputs, to_outputs
from peace.encoders.places import PlaceCodes
from peace.graph.stack import Stack
from peace.graph.weight_graph import Layer, Role

Gates = Sequence[tuple[Tensor | None, Tensor | None]]
"""Of each layer the gates of its taps on the way to its outputs and back to its inputs; None for a single tap."""

_NOTHING = -1e4


class Tally:
    """What has reached the nodes of every axis, as x = eˢ·x̂, the largest entry of x̂ being 1.

    Products along paths grow with depth beyond what numbers hold, and may not be divided by the norm of a layer's
    weights, which the scales of its neurons change. s is one number a model and axis, so that x̂ behaves under those
    scales as x does. What k messages bring is divided by √k, so that neither residual streams nor concatenations grow
    with their length. s is a constant to the gradient: nothing that is computed from s and x̂ as x depends on it.

    Attributes:
        states: x̂ of each axis, zero where nothing has arrived. Shape of each: [B, n, H].
        logs: s of each axis. Shape of each: [B].
    """

    def __init__(self, stack: Stack, dim: int) -> None:
        like = stack.weights[0]
        self.states = [like.new_zeros(len(stack), axis.size, dim) for axis in stack.graph.axes]
        self.logs = [like.new_full((len(stack),), _NOTHING) for _ in stack.graph.axes]
        self._heard = [0] * len(self.states)

    def add(self, axis: int, message: Tensor, log: Tensor | None = None) -> None:
        """Adds one more message, e^log times the given, log being 0 where none is given. Shapes: [B, n, H], [B]."""
        log = self.logs[axis].new_zeros(len(message)) if log is None else log
        heard, self._heard[axis] = self._heard[axis], self._heard[axis] + 1
        before = [(self.states[axis] * (heard / (heard + 1)) ** 0.5, self.logs[axis])] if heard else []
        self.states[axis], self.logs[axis] = _sum([*before, (message / (heard + 1) ** 0.5, log)])


class Sweeps(nn.Module):
    """The linear part of a network, as random projections of products along paths.

    x begins with codes of the input nodes' positions and takes up biases b·u on its way forward, y with codes of the
    output nodes' positions on its way back. A hidden axis that nothing reads (queries and keys), or nothing writes,
    begins with ones where nothing may rescale it.

    Args:
        dim: H.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.input_codes, self.output_codes, self.tap_gates = PlaceCodes(dim), PlaceCodes(dim), PlaceCodes(2 * dim)
        self.bias_direction = nn.Parameter(torch.randn(dim))

    def forward(self, stack: Stack) -> tuple[Tally, Tally, Gates]:
        """Returns x, what reaches each node, y, what it contributes, and the gates of every layer's taps."""
        gates = [self._gates(layer, stack.weights[0]) for layer in stack.graph.layers]
        return self._ahead(stack, gates), self._back(stack, gates), gates

    def _gates(self, layer: Layer, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if layer.n_tap == 1:
            return None, None
        ahead, back = self.tap_gates.of(layer.taps, like).chunk(2, dim=1)
        return ahead, back

    def _ahead(self, stack: Stack, gates: Gates) -> Tally:
        tally = self._begun(stack, "input", self.input_codes)
        for place, layer in enumerate(stack.graph.layers):
            bias, log = stack.biases[place], tally.logs[layer.in_axis]
            message = to_outputs(stack.weights[place], tally.states[layer.in_axis], gates[place][0], layer.groups)
            if bias is not None:
                message, log = _sum([(message, log), (bias[:, :, None] * self.bias_direction, torch.zeros_like(log))])
            tally.add(layer.out_axis, message, log)
        return tally

    def _back(self, stack: Stack, gates: Gates) -> Tally:
        tally = self._begun(stack, "output", self.output_codes)
        for place, layer in reversed(list(enumerate(stack.graph.layers))):
            message = to_inputs(stack.weights[place], tally.states[layer.out_axis], gates[place][1], layer.groups)
            tally.add(layer.in_axis, message, tally.logs[layer.out_axis])
        return tally

    def _begun(self, stack: Stack, role: Role, codes: PlaceCodes) -> Tally:
        tally, like = Tally(stack, len(self.bias_direction)), stack.weights[0]
        touching = stack.graph.writers if role == "input" else stack.graph.readers
        for place, axis in enumerate(stack.graph.axes):
            if axis.role == role:
                tally.add(place, codes.of(axis.shape, like).expand(len(stack), -1, -1))
            elif axis.role == "hidden" and axis.scaling == "none" and not touching(place):
                tally.add(place, torch.ones_like(tally.states[place]))
        return tally


def unit(states: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each model's states over their root mean square, and its logarithm; zero states and 0 for zero states.

    Shape: [B, n, H] -> [B, n, H], [B].
    """
    states, peak, size = _sized(states)
    return states / size[:, None, None], (peak * size).log()


def log_size(states: Tensor) -> Tensor:
    """Returns the logarithm of each model's root mean square, 0 for zero states. Shape: [B, n, H] -> [B]."""
    _, peak, size = _sized(states)
    return (peak * size).log()


def _sized(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States over their largest entry, that entry, and their root mean square: not below 1 / (n H), or 1 for zeros."""
    peak = _peak(states)
    peak = torch.where(peak > 0, peak, 1)
    states = states / peak[:, None, None]
    size = torch.linalg.vector_norm(states, dim=(1, 2)) / states[0].numel() ** 0.5
    return states, peak, torch.where(size > 0, size, 1)


def _peak(states: Tensor) -> Tensor:
    """The largest entry, to divide by and to multiply with elsewhere: a constant to the gradient. Shape: [B]."""
    return torch.linalg.vector_norm(states.detach(), ord=torch.inf, dim=(1, 2))


def _sum(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The sum of e^log times states, in the same form. Shapes: [B, n, H], [B]."""
    top, total = parts[0][1], parts[0][0]
    if len(parts) > 1:
        top = torch.stack([log for _, log in parts]).amax(0)
        total = sum(states * (log - top).exp()[:, None, None] for states, log in parts)
    peak = _peak(total)
    held = torch.where(peak > 0, peak, 1)
    return total / held[:, None, None], torch.where(peak > 0, top + held.log(), _NOTHING)
